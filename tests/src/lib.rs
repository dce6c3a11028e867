//! What the end-to-end tests (`suite/main.rs`) and the benchmarks (`bench/main.rs`) share: the product as a black box.

pub mod domains;
pub mod product;
pub mod usage;

/// A CPF with its check digits (Receita Federal: weights 10 to 2 and 11 to 2, modulo 11).
pub fn cpf(number: usize) -> String {
    let mut digits: Vec<usize> =
        format!("{:09}", 100_000_000 + number).bytes().map(|byte| usize::from(byte - b'0')).collect();
    for length in [9, 10] {
        let sum: usize = digits.iter().enumerate().map(|(at, digit)| digit * (length + 1 - at)).sum();
        digits.push((sum * 10 % 11) % 10);
    }
    digits.iter().map(ToString::to_string).collect()
}
