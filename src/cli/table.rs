//! Tables and text on standard output.

use std::io::Write;

use comfy_table::{CellAlignment, Table, presets};

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A table with a ruled head; a row that is short leaves its last cells empty.
pub fn table(columns: &[(&str, Align)], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(columns.iter().map(|(name, _)| *name));
    for row in rows {
        table.add_row(row);
    }
    for (index, (_, align)) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
    }
    // Nothing but words and space: it reads the same in a log, in a mail and in `awk`.
    let lines: Vec<_> = table
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_string())
        .collect();
    lines.join("\n")
}

/// Writes to standard output. A reader that went away, as `head` does, is no failure.
pub fn emit(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["a".into(), "1".into()],
            vec!["long name".into(), "1000".into()],
            vec!["b".into()],
        ];
        let text = table(&[("model", Align::Left), ("joules", Align::Right)], rows);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].ends_with("1") && lines[2].ends_with("1000"), "{text}");
        assert_eq!(lines[1].len(), lines[2].len(), "{text}");
        assert!(lines.iter().all(|l| l.trim_end() == *l));
    }
}
