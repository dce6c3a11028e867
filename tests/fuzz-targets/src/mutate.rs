//! Mutations of seeds: deterministic, so that a failure is reproducible.

/// What is inserted: where formats begin, end and nest, and where numbers and encodings break.
const TOKENS: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"/",
    b"@",
    b"?",
    b"#",
    b"&",
    b"=",
    b"%",
    b"%00",
    b"%2F",
    b"\0",
    b"\n",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\\ud800",
    b"\xc3\xa9",
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"null",
    b" ",
];

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// So many mutations of the seeds, each of up to four steps.
pub(crate) fn cases(seeds: &[Vec<u8>], count: usize) -> Vec<Vec<u8>> {
    let mut random = Random(0);
    let mut case = |n: usize| {
        let mut input = seeds[n % seeds.len()].clone();
        for _ in 0..=random.below(4) {
            step(&mut input, seeds, &mut random);
        }
        input
    };
    (0..count).map(&mut case).collect()
}

fn step(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = (at + random.below(16)).min(input.len());
    match random.below(6) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 => drop(input.drain(at..end)),
        2 => {
            let again = input[at..end].to_vec();
            drop(input.splice(at..at, again));
        }
        3 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        4 => input.insert(at, random.next() as u8),
        _ => drop(input.splice(at..at, TOKENS[random.below(TOKENS.len())].iter().copied())),
    }
}

/// Prints the input when a target panics on it.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was b\"{}\"", self.0.escape_ascii());
        }
    }
}
