/// What all demands on a value together leave, for each kind of value.
struct SchemaConjunction: Sendable {
  /// The literals that the demands come from.
  var literals: Set<SchemaLiteral> = []
  var kinds = ValueKinds.all
  /// The list of values of an `enum` or `const`; the other demands then only choose among them.
  var values: Int?
  var number = NumberDemands()
  var string = StringDemands()
  var array = ArrayDemands()
  var object = ObjectDemands()
  /// Demands that cannot be expressed, with the kinds of values that they concern.
  var refusals: [Refusal] = []

  struct Refusal: Sendable {
    let kinds: ValueKinds
    let error: SchemaError
  }

  /// On whole and other numbers.
  struct NumberDemands: Hashable, Sendable {
    var bounds = NumberBounds()
    var multiples: [Multiple] = []
    var excluded: [DecimalNumber] = []

    struct Multiple: Hashable, Sendable {
      let number: DecimalNumber
      let isPositive: Bool
      /// Of the `multipleOf`.
      let path: String
    }
  }

  struct StringDemands: Hashable, Sendable {
    var texts: [TextExpression] = []
    var length = CountRange()

    /// All of it in one expression.
    var expression: TextExpression {
      if length.isEmpty { return .nothing }
      let lengths = length == CountRange() ? [] : [TextExpression.scalar(.all).repeated(length.minimum, length.maximum)]
      return .all(texts + lengths)
    }
  }

  struct ArrayDemands: Hashable, Sendable {
    var groups: [ItemGroup] = []
    var count = BoundCount()
    var contains: [ItemCount] = []
    /// The path of each of `contains`.
    var containsPaths: [String] = []
    /// The path of a `uniqueItems`.
    var unique: String?
  }

  struct ObjectDemands: Hashable, Sendable {
    var groups: [PropertyGroup] = []
    /// In the order in which they are first demanded.
    private(set) var required: [String] = []
    private var requiredSet: Set<String> = []
    var count = BoundCount()
    var propertyNames: [SchemaLiteral] = []

    /// Demands a key.
    mutating func require(_ key: String) {
      if requiredSet.insert(key).inserted { required.append(key) }
    }

    /// Whether the key is demanded.
    func requires(_ key: String) -> Bool { requiredSet.contains(key) }
  }

  /// A range with the paths of the keywords that bound it.
  struct BoundCount: Hashable, Sendable {
    private(set) var range = CountRange()
    private(set) var minimumPath: String?
    private(set) var maximumPath: String?

    /// Restricts the count.
    mutating func restrict(to other: CountRange, path: String) {
      let before = range
      range = before.intersection(other)
      if range.minimum != before.minimum { minimumPath = path }
      if range.maximum != before.maximum { maximumPath = path }
    }

    /// The path of a bound above a limit.
    func path(above limit: Int) -> String? {
      if range.minimum > limit { return minimumPath }
      return range.maximum.map { $0 > limit } ?? false ? maximumPath : nil
    }
  }

  /// About how many parts the demands have.
  var size: Int {
    literals.count + number.multiples.count + number.excluded.count + string.texts.count + array.groups.count
      + array.contains.count + object.groups.count + 2 * object.required.count + object.propertyNames.count
      + refusals.count
  }

  /// Restricts the kinds.
  mutating func restrict(to kinds: ValueKinds) { self.kinds.formIntersection(kinds) }
}
