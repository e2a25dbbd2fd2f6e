import Kernels

/// What the scheduler reads of a sequence, which is the tokens of one request: its prompt, and the tokens generated
/// after it.
///
/// The sequence owns these facts. The scheduler has a reference to it and no copies, so its decisions always follow
/// from the sequence's real progress.
protocol ScheduledSequence: AnyObject {
  /// Identifies the sequence. Smaller values arrived earlier.
  var id: GenerationID { get }
  /// The client and the weights that the sequence's rows are charged to.
  var stream: StreamKey { get }
  /// Identifies sequences with the same prompt, of which one computes it while the others wait; `nil` if there is no
  /// other.
  var groupID: UInt64? { get }
  /// When the sequence's timeout passes, on the clock that `Scheduler.next` is given; `nil` for never.
  var deadline: Duration? { get }
  /// Tokens of the prompt; at least 1.
  var promptLength: Int { get }
  /// Whether every row of the prompt needs its logits.
  var scoresPrompt: Bool { get }
  /// Tokens that are known, prompt and answer.
  var length: Int { get }
  /// How many of the tokens have their keys and values in the cache.
  var computed: Int { get }
  /// Cache blocks that the sequence holds.
  var blockCount: Int { get }
  /// Tokens that may follow the known ones. A pass may compute any number of the first of them. 0 unless one token is
  /// pending.
  var draftLength: Int { get }
  /// The expected rate at which a token of the draft turns out right, if those before it do.
  var draftRate: Double { get }

  /// How many of this sequence's first tokens it could share with `other`, once `other` has computed them.
  func reusableTokens(from other: Self) -> Int
}

extension ScheduledSequence {
  /// Tokens that are not computed yet: 1 while decoding, more while the prompt is computed.
  var pending: Int { length - computed }
}

/// Blocks of the key-value cache that cover so many positions.
func blockCount(covering positions: Int) -> Int { (positions + keyValueBlockLength - 1) / keyValueBlockLength }

/// The scheduler's limits.
struct SchedulerLimits: Equatable {
  /// Maximum rows of one pass; at least 1.
  var rowBudget: Int
  /// Maximum sequences that run at once; at least 1.
  var running: Int
  /// Maximum rows whose logits are computed in one pass; at least 1.
  var logitRows: Int
  /// How long a pass may take while sequences decode, so that a long prompt does not stall them.
  var stepTarget: Duration?
  /// The rows of background sequences for each row of others, 0...1, while others run. 0 pauses background sequences until
  /// no other runs.
  var backgroundShare = 0.0
}
