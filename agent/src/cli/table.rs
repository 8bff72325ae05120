//! Columns as Litestream prints them: left-aligned, two blanks apart, no ruling, nothing after the last.

/// The rows under their header, each line ended.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let header = header.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&header).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in std::iter::once(&header).chain(rows) {
        for (i, cell) in row.iter().enumerate() {
            let pad = if i + 1 < N { widths[i] + 2 - cell.chars().count() } else { 0 };
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', pad));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_two_blanks_apart() {
        let rows = [["/data/station.db".into(), "s3".into()], ["/x".into(), "file,s3".into()]];
        let expected = "path              replicas\n/data/station.db  s3\n/x                file,s3\n";
        assert_eq!(table(["path", "replicas"], &rows), expected);
    }
}
