//! Markdown from values.

/// A table. Characters that would end a cell are escaped.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(head.iter().map(|cell| cell_of(cell)).collect());
    out.push_str(&line(head.iter().map(|_| "---".to_owned()).collect()).replace(' ', ""));
    for row in rows {
        out.push_str(&line(row.iter().map(|cell| cell_of(cell)).collect()));
    }
    out
}

fn cell_of(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Three significant digits.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "–".to_owned(),
        size if size >= 100.0 => grouped(value),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

/// Thousands are separated by spaces.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        let left = digits.len() - place;
        if place > 0 && left.is_multiple_of(3) && digit.is_ascii_digit() && out.ends_with(|c: char| c.is_ascii_digit())
        {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Replaces the block between the two marks, which stay.
pub(crate) fn with_block(text: &str, begin: &str, end: &str, block: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{block}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_its_cells() {
        let table = table(&["a", "b"], &[vec!["1|2".to_owned(), "x".to_owned()]]);
        assert_eq!(table, "| a | b |\n|---|---|\n| 1\\|2 | x |\n");
    }

    #[test]
    fn numbers_have_the_digits_that_count() {
        let all = [0.0, 0.01234, 1.235, 12.34, 123.4, 12_345.6, 1_234_567.0, -1234.0, f64::NAN];
        let expected = ["0", "0.012", "1.24", "12.3", "123", "12 346", "1 234 567", "-1 234", "–"];
        assert_eq!(all.map(number), expected);
    }

    #[test]
    fn only_what_is_between_the_marks_is_new() {
        let old = "head\n<!-- a -->\nold\n<!-- b -->\nfoot\n";
        let new = with_block(old, "<!-- a -->", "<!-- b -->", "new\n").unwrap();
        assert_eq!(new, "head\n<!-- a -->\nnew\n<!-- b -->\nfoot\n");
        assert_eq!(with_block(&new, "<!-- a -->", "<!-- b -->", "new\n"), Some(new));
        assert_eq!(with_block("nothing", "<!-- a -->", "<!-- b -->", "new\n"), None);
    }
}
