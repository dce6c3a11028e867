//! A clock that is off: a library to preload that shifts what a process is told about the time of day.
//!
//! Compiled with the C compiler that every Rust toolchain links with. Monotonic clocks stay as they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Shifts `CLOCK_REALTIME` by the seconds in `CLOCK_SHIFT_S`.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long shift(void) {
    const char *text = getenv("CLOCK_SHIFT_S");
    return text ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += shift();
    return result;
}
"#;

/// Compiles the library into a folder, and gives what a process needs in its environment to live so many seconds ahead.
///
/// # Errors
/// There is no C compiler.
pub fn shifted_clock(folder: &Path, seconds: i64) -> Result<[(&'static str, String); 2]> {
    let (source, library): (PathBuf, PathBuf) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, SOURCE).context("writing the clock's source")?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let status = compiler.status().context("starting cc")?;
    ensure!(status.success(), "cc ends with {status}");
    Ok([("LD_PRELOAD", library.display().to_string()), ("CLOCK_SHIFT_S", seconds.to_string())])
}
