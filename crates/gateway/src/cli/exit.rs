//! How a command ended, for scripts. The one list of exit codes: the help and the manual print it.

/// How a command ended when it did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// It failed, was refused or called off, or found problems.
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// The token does not allow it.
    Denied = 4,
    /// Some of it was done and some was not.
    Partly = 5,
    /// There is no answer from the gateway.
    Unreachable = 6,
}

/// The list, as the help shows it.
pub(super) const CODES: &str = "\
Exit codes:
  0  done, nothing wrong
  1  failed, refused or called off; `doctor` found problems
  2  wrong command line or configuration
  3  what was named does not exist
  4  the token does not allow it
  5  some of it was done and some was not
  6  the gateway cannot be reached";

/// What is told to whoever ran the command, and the exit code.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    /// Empty: there is nothing to say, or nobody left to tell.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Everything has been said already.
    pub(super) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // `zapbus deliveries | head`: who reads has read enough.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::silent(Exit::Failure);
        }
        Self::new(Exit::Failure, format!("cannot write the output: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_whole() {
        let codes = [
            Exit::Failure,
            Exit::Usage,
            Exit::NotFound,
            Exit::Denied,
            Exit::Partly,
            Exit::Unreachable,
        ];
        for code in codes {
            assert!(CODES.contains(&format!("\n  {}  ", code as u8)), "{code:?}");
        }
        assert_eq!(CODES.lines().count(), codes.len() + 2);
    }
}
