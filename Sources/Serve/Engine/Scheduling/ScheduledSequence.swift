import Kernels

/// What the scheduler reads of a sequence: a request's tokens, those of its prompt and those generated after it.
///
/// The sequence owns these facts. The scheduler keeps a reference to it and no copy of them, so it always decides by the
/// sequence's real progress.
protocol ScheduledSequence: AnyObject {
  /// Identifies the sequence. Smaller values arrived earlier.
  var id: GenerationID { get }
  /// The client and the weights that the sequence's rows are charged to.
  var stream: StreamKey { get }
  /// Identifies the sequences with the same prompt, of which one computes it while the others wait. `nil`: no others.
  var groupID: UInt64? { get }
  /// When the sequence's time is over, on the clock that `Scheduler.next` is given.
  var deadline: Duration? { get }
  /// Tokens of the prompt; at least 1.
  var promptLength: Int { get }
  /// Whether every row of the prompt needs its logits.
  var scoresPrompt: Bool { get }
  /// Tokens that are known.
  var length: Int { get }
  /// Of the tokens, those whose keys and values are in the cache.
  var computed: Int { get }
  /// Cache blocks that the sequence holds.
  var blockCount: Int { get }

  /// How many of this sequence's first tokens it could take over from `other`, once `other` has computed them.
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
}
