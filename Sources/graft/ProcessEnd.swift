@preconcurrency import Glibc

/// Ends the process without the exit handlers of libraries. Other threads may still train, load or copy when the main thread
/// is done, and the handlers of OpenSSL and OpenBLAS free what those threads use.
func endProcess(_ code: Int32) -> Never {
  fflush(stdout)
  _exit(code)
}
