import Formats

/// Writes the demands of subschemas as alternatives, in each of which every demand is on one kind of value.
final class SchemaExpander {
  /// A demand that is not yet part of a conjunction.
  enum Goal {
    case literal(SchemaLiteral)
    case assertion(SourcedAssertion, isPositive: Bool)
  }

  /// The maximum of alternatives that demands may combine to.
  private static let mostAlternatives = 2_000

  var document: SchemaDocument
  var keywords: SchemaKeywords
  let budget: CompilationBudget
  /// The automata of patterns that keys and values were held to.
  private var automata: [TextExpression: TextExpressionAutomaton] = [:]
  private var disjoint: [Set<SchemaLiteral>: Bool] = [:]
  private var work = 0
  private static let mostWork = 200_000

  init(_ document: SchemaDocument, _ budget: CompilationBudget) {
    self.document = document
    self.budget = budget
    keywords = SchemaKeywords(budget)
  }

  /// An unfinished alternative.
  private struct Draft {
    var conjunction = SchemaConjunction()
    var goals: [Goal] = []
    /// Each a list of options. The ones before `nextChoice` were made.
    var choices: [[[Goal]]] = []
    var nextChoice = 0

    /// About how much work copying it is.
    var size: Int { 4 + goals.count + choices.count - nextChoice + conjunction.size / 4 }
  }

  private func tooManyAlternatives(_ literals: some Collection<SchemaLiteral>) -> SchemaError {
    let path = literals.first.map { document[$0].path } ?? "#"
    return SchemaError(path, "the schema combines to more than \(Self.mostAlternatives) alternatives")
  }

  /// What a subschema demands.
  func assertions(of literal: SchemaLiteral) throws(SchemaError) -> [SourcedAssertion] {
    try keywords.assertions(of: literal.schema, in: &document)
  }

  /// The alternatives of a set of literals that have to hold together.
  func alternatives(_ literals: [SchemaLiteral]) throws(SchemaError) -> [SchemaConjunction] {
    var drafts = [Draft(goals: literals.reversed().map { .literal($0) })]
    var finished: [SchemaConjunction] = []
    var steps = 0
    while var draft = drafts.popLast() {
      steps += 1
      work += 1
      guard steps <= Self.mostAlternatives, work <= Self.mostWork else { throw tooManyAlternatives(literals) }
      while let goal = draft.goals.popLast(), !draft.conjunction.kinds.isEmpty {
        try budget.spend(2, at: path(of: literals))
        try add(goal, to: &draft)
      }
      if draft.conjunction.kinds.isEmpty { continue }
      guard draft.conjunction.values == nil, draft.nextChoice < draft.choices.count else {
        finished.append(draft.conjunction)
        continue
      }
      let choice = draft.choices[draft.nextChoice]
      draft.nextChoice += 1
      // Each option is a step.
      guard steps + drafts.count + choice.count <= Self.mostAlternatives else { throw tooManyAlternatives(literals) }
      try budget.spend(choice.count * draft.size, at: path(of: literals))
      for option in choice.reversed() {
        var next = draft
        next.goals = option.reversed()
        drafts.append(next)
      }
    }
    return finished
  }

  private func add(_ goal: Goal, to draft: inout Draft) throws(SchemaError) {
    switch goal {
    case .literal(let literal):
      if draft.conjunction.literals.contains(literal.negated) { return draft.conjunction.kinds = [] }
      guard draft.conjunction.literals.insert(literal).inserted else { return }
      let assertions = try assertions(of: literal)
      if literal.isPositive {
        draft.goals += assertions.reversed().map { .assertion($0, isPositive: true) }
      } else {
        choose(assertions.map { [.assertion($0, isPositive: false)] }, in: &draft)
      }
    case .assertion(let assertion, isPositive: true): try assert(assertion, in: &draft)
    case .assertion(let assertion, isPositive: false): try deny(assertion, in: &draft)
    }
  }

  /// The path, for messages, of the first of some demands.
  private func path(of literals: [SchemaLiteral]) -> String { literals.first.map { document[$0].path } ?? "#" }

  /// Throws if a list has more options than there may be alternatives, before the options are made.
  private func checkOptions(_ count: Int, at path: String) throws(SchemaError) {
    guard count <= Self.mostAlternatives else {
      throw SchemaError(path, "the schema combines to more than \(Self.mostAlternatives) alternatives")
    }
    try budget.spend(4 * count, at: path)
  }

  /// Whether a text is in an expression.
  func matches(_ text: String, _ expression: TextExpression) throws(CompilationBudget.Exceeded) -> Bool {
    try budget.spend(1 + expression.size / 4)
    if let known = automata[expression] { return try known.matches(text) }
    let automaton = try TextExpressionAutomaton(expression, budget)
    automata[expression] = automaton
    return try automaton.matches(text)
  }

  private func choose(_ options: [[Goal]], in draft: inout Draft) {
    switch options.count {
    case 0: draft.conjunction.kinds = []
    case 1: draft.goals += options[0].reversed()
    default: draft.choices.append(options)
    }
  }

  /// Goals of one assertion of a value's kind.
  private func goals(_ kind: ValueKinds, _ assertions: SchemaAssertion..., path: String) -> [Goal] {
    ([.kinds(kind)] + assertions).map { .assertion(SourcedAssertion(assertion: $0, path: path), isPositive: true) }
  }

  /// Goals of one of several cases of a value's kind.
  private func goals(_ one: SchemaCase, of kinds: ValueKinds, path: String) -> [Goal] {
    let conditions = one.conditions.flatMap { condition -> [Goal] in
      switch condition {
      case .literal(let literal): [.literal(literal)]
      case .hasKey(let key): goals(.object, .required([key]), path: path)
      }
    }
    return goals(kinds, path: path) + conditions
      + one.demands.map { .assertion(SourcedAssertion(assertion: $0, path: path), isPositive: true) }
  }

  private func forbidding(_ key: String) -> SchemaAssertion {
    .properties(PropertyGroup(names: [.init(key: key, value: SchemaDocument.never)]))
  }

  // MARK: demands

  private func assert(_ sourced: SourcedAssertion, in draft: inout Draft) throws(SchemaError) {
    switch sourced.assertion {
    case .kinds(let kinds): draft.conjunction.restrict(to: kinds)
    case .values(let list): draft.conjunction.values = draft.conjunction.values ?? list
    case .bounds(let bounds, let read):
      draft.conjunction.number.bounds = draft.conjunction.number.bounds.intersection(bounds).intersection(read)
    case .multiple(let number):
      draft.conjunction.number.multiples.append(.init(number: number, isPositive: true, path: sourced.path))
    case .text(let text): draft.conjunction.string.texts.append(text)
    case .length(let range):
      draft.conjunction.string.length = draft.conjunction.string.length.intersection(range)
      if draft.conjunction.string.length.isEmpty { draft.conjunction.kinds.remove(.string) }
    case .items(let group): draft.conjunction.array.groups.append(group)
    case .itemCount(let range):
      draft.conjunction.array.count.restrict(to: range, path: sourced.path)
      if draft.conjunction.array.count.range.isEmpty { draft.conjunction.kinds.remove(.array) }
    case .contains(let count):
      if count.range.isEmpty { draft.conjunction.kinds.remove(.array) }
      if count.range != CountRange() {
        draft.conjunction.array.contains.append(count)
        draft.conjunction.array.containsPaths.append(sourced.path)
      }
    case .uniqueItems: draft.conjunction.array.unique = sourced.path
    case .properties(let group): draft.conjunction.object.groups.append(group)
    case .required(let names):
      try budget.spend(names.count, at: sourced.path)
      for name in names { draft.conjunction.object.require(name) }
    case .propertyCount(let range):
      draft.conjunction.object.count.restrict(to: range, path: sourced.path)
      if draft.conjunction.object.count.range.isEmpty { draft.conjunction.kinds.remove(.object) }
    case .propertyNames(let literal): draft.conjunction.object.propertyNames.append(literal)
    case .dependentRequired(let key, let names):
      choose(
        [
          goals(.all, forbidding(key), path: sourced.path),
          goals(.object, .required([key] + names), path: sourced.path),
        ], in: &draft)
    case .dependentSchema(let key, let literal):
      choose(
        [
          goals(.all, forbidding(key), path: sourced.path),
          goals(.object, .required([key]), path: sourced.path) + [.literal(literal)],
        ], in: &draft)
    case .reference(let literal): draft.goals.append(.literal(literal))
    case .allOf(let literals): draft.goals += literals.reversed().map { .literal($0) }
    case .anyOf(let literals):
      try checkOptions(literals.count, at: sourced.path)
      choose(literals.map { [.literal($0)] }, in: &draft)
    case .oneOf(let literals):
      try checkOptions(literals.count, at: sourced.path)
      let areDisjoint = try areDisjoint(literals)
      if !areDisjoint { try budget.spend(literals.count * literals.count, at: sourced.path) }
      choose(
        literals.indices.map { index in
          let others = areDisjoint ? [] : literals.indices.filter { $0 != index }.map { literals[$0].negated }
          return ([literals[index]] + others).map { .literal($0) }
        }, in: &draft)
    case .conditional(let condition, let then, let otherwise):
      choose(
        [
          ([condition] + (then.map { [$0] } ?? [])).map { .literal($0) },
          ([condition.negated] + (otherwise.map { [$0] } ?? [])).map { .literal($0) },
        ], in: &draft)
    case .cases(let kinds, let cases):
      try checkOptions(1 + cases.count, at: sourced.path)
      let others = goals(ValueKinds.all.subtracting(kinds), path: sourced.path)
      choose([others] + cases.map { goals($0, of: kinds, path: sourced.path) }, in: &draft)
    case .unsupported(let kinds, let reason):
      draft.conjunction.refusals.append(.init(kinds: kinds, error: SchemaError(sourced.path, reason)))
    }
  }

  // MARK: the opposites of demands

  private func deny(_ sourced: SourcedAssertion, in draft: inout Draft) throws(SchemaError) {
    let path = sourced.path
    func refuse(_ kinds: ValueKinds, _ keyword: String) {
      draft.conjunction.restrict(to: kinds)
      let error = SchemaError(path, "the opposite of \(keyword), which not, oneOf or if asks for, is not supported")
      draft.conjunction.refusals.append(.init(kinds: kinds, error: error))
    }
    switch sourced.assertion {
    case .kinds(let kinds): draft.conjunction.restrict(to: ValueKinds.all.subtracting(kinds))
    case .values(let list): try exclude(keywords.values[list], in: &draft, path: path)
    case .bounds(let bounds, let read):
      choose(
        zip(bounds.outside, read.outside).map { goals(.number, .bounds($0, asRead: $1.asRead), path: path) }, in: &draft
      )
    case .multiple(let number):
      draft.conjunction.restrict(to: .number)
      draft.conjunction.number.multiples.append(.init(number: number, isPositive: false, path: path))
    case .text(let text):
      draft.conjunction.restrict(to: .string)
      draft.conjunction.string.texts.append(.complement(text))
    case .length(let range): choose(range.outside.map { goals(.string, .length($0), path: path) }, in: &draft)
    case .items(let group):
      try checkOptions(group.prefix.count, at: path)
      try budget.spend(group.prefix.count * group.prefix.count, at: path)
      var options = group.prefix.enumerated().compactMap { index, literal in
        literal.map { literal in
          let group = ItemGroup(prefix: [SchemaLiteral?](repeating: nil, count: index) + [literal.negated])
          return goals(.array, .itemCount(CountRange(minimum: index + 1)), .items(group), path: path)
        }
      }
      if let rest = group.rest {
        let count = ItemCount(item: rest.negated, range: CountRange(minimum: 1), from: group.prefix.count)
        options.append(goals(.array, .contains(count), path: path))
      }
      choose(options, in: &draft)
    case .itemCount(let range): choose(range.outside.map { goals(.array, .itemCount($0), path: path) }, in: &draft)
    case .contains(let count):
      choose(
        count.range.outside.map {
          goals(.array, .contains(ItemCount(item: count.item, range: $0, from: count.from)), path: path)
        }, in: &draft)
    case .uniqueItems: refuse(.array, "uniqueItems")
    case .properties(let group):
      try checkOptions(group.names.count, at: path)
      var options = group.names.map { name in
        let opposite = PropertyGroup(names: [.init(key: name.key, value: name.value.negated)])
        return goals(.object, .required([name.key]), .properties(opposite), path: path)
      }
      // A value can only be wrong under a schema that some values do not satisfy.
      if (group.patterns.map(\.value) + [group.additional].compactMap(\.self)).contains(where: { !isAlways($0) }) {
        let reason =
          "the opposite of patternProperties or additionalProperties, which not, oneOf or if asks for, is not supported"
        options.append(goals(.object, .unsupported(.object, reason: reason), path: path))
      }
      choose(options, in: &draft)
    case .required(let names):
      try checkOptions(names.count, at: path)
      choose(names.map { goals(.object, forbidding($0), path: path) }, in: &draft)
    case .propertyCount(let range):
      choose(range.outside.map { goals(.object, .propertyCount($0), path: path) }, in: &draft)
    case .propertyNames: refuse(.object, "propertyNames")
    case .dependentRequired(let key, let names):
      try checkOptions(names.count, at: path)
      choose(names.map { goals(.object, .required([key]), forbidding($0), path: path) }, in: &draft)
    case .dependentSchema(let key, let literal):
      draft.goals.append(.literal(literal.negated))
      draft.goals += goals(.object, .required([key]), path: path)
    case .reference(let literal): draft.goals.append(.literal(literal.negated))
    case .allOf(let literals):
      try checkOptions(literals.count, at: path)
      choose(literals.map { [.literal($0.negated)] }, in: &draft)
    case .anyOf(let literals): draft.goals += literals.map { .literal($0.negated) }
    case .oneOf(let literals):
      try checkOptions(literals.count, at: path)
      try checkOptions(1 + literals.count * (literals.count - 1) / 2, at: path)
      var options = [literals.map { Goal.literal($0.negated) }]
      for (index, first) in literals.enumerated() {
        for second in literals[(index + 1)...] { options.append([.literal(first), .literal(second)]) }
      }
      choose(options, in: &draft)
    case .conditional(let condition, let then, let otherwise):
      choose(
        [(condition, then), (condition.negated, otherwise)].compactMap { condition, consequence in
          consequence.map { [.literal(condition), .literal($0.negated)] }
        }, in: &draft)
    case .cases(let kinds, _): refuse(kinds, kinds == .object ? "unevaluatedProperties" : "unevaluatedItems")
    case .unsupported(let kinds, let reason):
      draft.conjunction.restrict(to: kinds)
      draft.conjunction.refusals.append(.init(kinds: kinds, error: SchemaError(path, reason)))
    }
  }

  /// Whether it is plain that every value satisfies a literal.
  private func isAlways(_ literal: SchemaLiteral) -> Bool {
    let value = document[literal].value
    return literal.isPositive ? value == true || value.object?.isEmpty == true : value == false
  }

  private func exclude(_ values: [JSONValue], in draft: inout Draft, path: String) throws(SchemaError) {
    try budget.spend(values.count, at: path)
    let texts = values.compactMap(\.string)
    if !texts.isEmpty {
      for text in texts { try budget.spend(text.utf8.count, at: path) }
      draft.conjunction.string.texts.append(.complement(.any(of: texts)))
    }
    for value in values {
      switch value {
      case .null: draft.conjunction.kinds.remove(.null)
      case .bool(let value): draft.conjunction.kinds.remove(value ? .yes : .no)
      case .integer, .number, .decimal: draft.conjunction.number.excluded.append(DecimalNumber(value)!)
      case .string: break
      case .array(let items) where items.isEmpty:
        draft.conjunction.array.count.restrict(to: CountRange(minimum: 1), path: path)
        if draft.conjunction.array.count.range.isEmpty { draft.conjunction.kinds.remove(.array) }
      case .object(let object) where object.isEmpty:
        draft.conjunction.object.count.restrict(to: CountRange(minimum: 1), path: path)
        if draft.conjunction.object.count.range.isEmpty { draft.conjunction.kinds.remove(.object) }
      case .array, .object:
        let kind: ValueKinds = value.array == nil ? .object : .array
        let reason = "that a value is not this array or object is not supported"
        draft.conjunction.refusals.append(.init(kinds: kind, error: SchemaError(path, reason)))
      }
    }
  }

  // MARK: alternatives that exclude each other

  /// Whether it is plain that no value satisfies two of the literals.
  private func areDisjoint(_ literals: [SchemaLiteral]) throws(SchemaError) -> Bool {
    for (index, first) in literals.enumerated() {
      for second in literals[(index + 1)...] where try !isImpossible([first, second]) { return false }
    }
    return true
  }

  /// Whether it is plain that no value satisfies all literals.
  func isImpossible(_ literals: [SchemaLiteral], depth: Int = 3) throws(SchemaError) -> Bool {
    let key = Set(literals)
    if let known = disjoint[key] { return known }
    // While the answer is sought, a schema that contains itself counts as possible.
    disjoint[key] = false
    var result = true
    for conjunction in try alternatives(literals) where result {
      result = try isImpossible(conjunction, depth: depth)
    }
    if result { disjoint[key] = true } else { disjoint[key] = nil }
    return result
  }

  private func isImpossible(_ conjunction: SchemaConjunction, depth: Int) throws(SchemaError) -> Bool {
    if let list = conjunction.values {
      var validator = SchemaValidator(self)
      for value in keywords.values[list] where try validator.accepts(value, all: conjunction.literals) { return false }
      return true
    }
    if !conjunction.kinds.isDisjoint(with: [.null, .boolean]) { return false }
    if !conjunction.kinds.isDisjoint(with: .number) {
      guard conjunction.number.multiples.isEmpty, conjunction.number.excluded.isEmpty,
        let lower = conjunction.number.bounds.lower, let upper = conjunction.number.bounds.upper,
        lower.number > upper.number || (lower.number == upper.number && (lower.isExclusive || upper.isExclusive))
      else { return false }
    }
    if conjunction.kinds.contains(.string) {
      let expression = conjunction.string.expression
      guard case .intersection = expression else { return expression == .nothing }
      let isEmpty = try budget.at(path(of: conjunction.literals.sorted())) {
        (budget) throws(CompilationBudget.Exceeded) in
        try TextExpressionAutomaton(expression, budget).isEmpty(limit: 500)
      }
      if isEmpty != true { return false }
    }
    if conjunction.kinds.contains(.array) {
      let array = conjunction.array
      guard depth > 0, array.count.range.minimum > 0 else { return false }
      var isImpossibleItem = false
      for index in 0..<min(array.count.range.minimum, 8) where !isImpossibleItem {
        let item = array.groups.compactMap { index < $0.prefix.count ? $0.prefix[index] : $0.rest }
        if !item.isEmpty { isImpossibleItem = try isImpossible(item, depth: depth - 1) }
      }
      if !isImpossibleItem { return false }
    }
    if conjunction.kinds.contains(.object) {
      guard depth > 0 else { return false }
      for name in conjunction.object.required {
        let value = try literals(ofKey: name, conjunction.object.groups)
        if !value.isEmpty, try isImpossible(value, depth: depth - 1) { return true }
      }
      return false
    }
    return true
  }
}

extension SchemaExpander {
  /// What the value of a key has to satisfy.
  func literals(ofKey key: String, _ groups: [PropertyGroup]) throws(SchemaError) -> [SchemaLiteral] {
    var literals: [SchemaLiteral] = []
    for group in groups {
      try budget.spend(1, at: "#")
      let named = group.value(ofName: key).map { [$0] } ?? []
      var matched: [SchemaLiteral] = []
      for pattern in group.patterns {
        let isMatch = try budget.at(document[pattern.value].path) { (_) throws(CompilationBudget.Exceeded) in
          try matches(key, pattern.keys)
        }
        if isMatch { matched.append(pattern.value) }
      }
      literals += named + matched
      if named.isEmpty, matched.isEmpty, let additional = group.additional { literals.append(additional) }
    }
    return literals
  }
}
