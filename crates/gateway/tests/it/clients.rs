//! The clients of this project against the real binary: the Rust crate, and the Python package as its
//! wheel has it.

mod python;
mod rust;
