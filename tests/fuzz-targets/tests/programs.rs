//! The programs of `cargo fuzz`, compiled with a stand-in for libFuzzer, which needs a nightly toolchain, and run on the
//! seeds of their targets.

use fuzz_targets::TARGETS;

// The programs name this crate in the place of libFuzzer's.
extern crate self as libfuzzer_sys;

/// In the place of the macro that makes a function the entry point of a program.
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: &[u8]| $body:expr) => {
        pub fn program($input: &[u8]) {
            $body
        }
    };
}

#[allow(unused_attributes, reason = "it is the root of a crate elsewhere")]
#[path = "../../../fuzz/fuzz_targets/addresses.rs"]
mod addresses;
#[allow(unused_attributes, reason = "it is the root of a crate elsewhere")]
#[path = "../../../fuzz/fuzz_targets/bodies.rs"]
mod bodies;
#[allow(unused_attributes, reason = "it is the root of a crate elsewhere")]
#[path = "../../../fuzz/fuzz_targets/credentials.rs"]
mod credentials;
#[allow(unused_attributes, reason = "it is the root of a crate elsewhere")]
#[path = "../../../fuzz/fuzz_targets/cursors.rs"]
mod cursors;
#[allow(unused_attributes, reason = "it is the root of a crate elsewhere")]
#[path = "../../../fuzz/fuzz_targets/declarations.rs"]
mod declarations;
#[allow(unused_attributes, reason = "it is the root of a crate elsewhere")]
#[path = "../../../fuzz/fuzz_targets/expressions.rs"]
mod expressions;
#[allow(unused_attributes, reason = "it is the root of a crate elsewhere")]
#[path = "../../../fuzz/fuzz_targets/filters.rs"]
mod filters;
#[allow(unused_attributes, reason = "it is the root of a crate elsewhere")]
#[path = "../../../fuzz/fuzz_targets/urls.rs"]
mod urls;

/// Runs a target on an input.
type Program = fn(&[u8]);

#[test]
fn every_program_compiles_and_runs_its_own_target() {
    let programs: [(&str, Program); 8] = [
        ("addresses", addresses::program),
        ("bodies", bodies::program),
        ("credentials", credentials::program),
        ("cursors", cursors::program),
        ("declarations", declarations::program),
        ("expressions", expressions::program),
        ("filters", filters::program),
        ("urls", urls::program),
    ];
    assert_eq!(programs.len(), TARGETS.len());
    for (name, program) in programs {
        let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
        (target.seeds)().iter().for_each(|seed| program(seed));
    }
}
