//! Tables for people: columns as wide as their widest cell, two blanks between.

use std::fmt::Write as _;

/// Lays out `rows` below `head`. The last column is not padded.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|h| h.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|&h| h.to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  "); // writing to a String cannot fail
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// How long ago, in the largest unit that fits: `5 s`, `3 min`, `2 h`, `9 d`.
pub(crate) fn ago(seconds: u64) -> String {
    match seconds {
        0..=99 => format!("{seconds} s ago"),
        100..=5_999 => format!("{} min ago", seconds / 60),
        6_000..=172_799 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [
            vec!["a".to_owned(), "long cell".to_owned(), "x".to_owned()],
            vec!["abcdef".to_owned(), String::new(), "y".to_owned()],
        ];
        let expected = "ID      STATE      X\na       long cell  x\nabcdef             y\n";
        assert_eq!(table(&["ID", "STATE", "X"], &rows), expected);
    }

    #[test]
    fn ages() {
        let cases = [(0, "0 s ago"), (100, "1 min ago"), (7_200, "2 h ago"), (864_000, "10 d ago")];
        for (seconds, text) in cases {
            assert_eq!(ago(seconds), text);
        }
    }
}
