//! "Did you mean …?"

/// The name that is most like this text, if one is near enough to be a slip of the pen.
pub(crate) fn nearest<'n>(text: &str, names: &[&'n str]) -> Option<&'n str> {
    const NAME_BYTES_MAX: usize = 64;
    let folded = |text: &str| text.to_ascii_lowercase().replace(['-', ' ', '.'], "_");
    let wanted = folded(text);
    let allowed = match wanted.len() {
        0..=2 => 0,
        3..=5 => 1,
        6..=11 => 2,
        12..=NAME_BYTES_MAX => 3,
        _ => return None,
    };
    names
        .iter()
        .map(|name| (distance(&wanted, &folded(name)), *name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits (a swap of neighbours counts as one) between two short texts.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (row[j - 1] + 1).min(rows[i - 1][j] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_when_it_is_near() {
        let keys = ["scrape_interval", "scrape_timeout", "job_name", "scheme"];
        assert_eq!(nearest("scrape_intervall", &keys), Some("scrape_interval"));
        assert_eq!(nearest("scrape-interval", &keys), Some("scrape_interval"));
        assert_eq!(nearest("job_nmae", &keys), Some("job_name"));
        assert_eq!(nearest("shceme", &keys), Some("scheme"));
        assert_eq!(nearest("banana", &keys), None);
        assert_eq!(nearest("", &keys), None);
        assert_eq!(nearest(&"a".repeat(1_000_000), &keys), None);
    }
}
