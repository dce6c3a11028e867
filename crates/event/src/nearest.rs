//! The known name that was probably meant by an unknown one.

/// The one of these names that is closest to the given one, if it is close.
pub fn nearest<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| {
        // Levenshtein, one row at a time.
        let mut row: Vec<usize> = (0..=name.chars().count()).collect();
        for (i, a) in given.chars().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, b) in name.chars().enumerate() {
                let replaced = diagonal + usize::from(a != b);
                diagonal = row[j + 1];
                row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row.last().copied().unwrap_or(0)
    };
    names
        .into_iter()
        .map(|name| (distance(name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn only_a_near_name_is_meant() {
        let check = |given, expect| assert_eq!(nearest(given, ["rec", "go", "beneficio-visao"]), expect);
        check("rce", None);
        check("recc", Some("rec"));
        check("beneficio-visoa", Some("beneficio-visao"));
        check("erp", None);
    }
}
