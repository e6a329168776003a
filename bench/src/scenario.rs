//! What is measured, one file per question.

mod path;
mod steady;

use crate::{Failure, bench::Bench};

/// A question with its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// How many events per second get through, at 1, 16, 64 and 256 connections and in batches.
    Path,
    /// How long an event takes at a steady rate.
    Steady,
}

impl Scenario {
    pub(crate) const ALL: [Self; 2] = [Self::Path, Self::Steady];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Steady => "steady",
        }
    }

    pub(crate) fn run(self, bench: &mut Bench) -> Result<(), Failure> {
        match self {
            Self::Path => path::run(bench),
            Self::Steady => steady::run(bench),
        }
    }
}
