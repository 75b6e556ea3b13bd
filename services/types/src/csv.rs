//! CSV as sources write it, a line at a time: a row that is broken must not swallow the rows after it.

use std::borrow::Cow;

/// The fields of a line; fails with what is wrong with it.
pub fn row(line: &str) -> Result<Vec<Cow<'_, str>>, String> {
    if !line.contains('"') {
        return Ok(line.split(',').map(Cow::Borrowed).collect());
    }
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => self::quoted(quoted)?,
            None => {
                let (field, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                (Cow::Borrowed(field), after)
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err(format!("a comma is due after a closing quote, at `{after}`")),
        }
    }
}

/// A line of fields.
pub fn line<'f>(fields: impl Iterator<Item = &'f str>) -> String {
    let quoted = |field: &'f str| match field.contains([',', '"']) {
        true => Cow::Owned(format!("\"{}\"", field.replace('"', "\"\""))),
        false => Cow::Borrowed(field),
    };
    fields.map(quoted).collect::<Vec<_>>().join(",")
}

/// A field after its opening quote, and what follows the closing one. A doubled quote stands for one.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), String> {
    let mut value = Cow::Borrowed("");
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or("a quote is not closed")?;
        value += &rest[..end];
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                value += "\"";
                rest = next;
            }
            None => return Ok((value, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_split_at_commas_outside_quotes() {
        for (line, expect) in [
            ("a,b,,c", Ok(vec!["a", "b", "", "c"])),
            ("", Ok(vec![""])),
            (r#""LOPEZ, MARIA",x"#, Ok(vec!["LOPEZ, MARIA", "x"])),
            (r#"1,"say ""hi"#, Err("a quote is not closed")),
            (r#"1,"say ""hi""","#, Ok(vec!["1", r#"say "hi""#, ""])),
            (r#""a"b,c"#, Err("a comma is due after a closing quote, at `b,c`")),
            (r#"5" pipe,c"#, Ok(vec![r#"5" pipe"#, "c"])),
        ] {
            let expect =
                expect.map(|fields| fields.into_iter().map(Cow::from).collect()).map_err(str::to_owned);
            assert_eq!(row(line), expect, "{line}");
        }
    }

    #[test]
    fn a_line_reads_as_its_fields() {
        for fields in [&["a", "", "b"][..], &["LOPEZ, MARIA", "5\" pipe", "\""], &["a"]] {
            assert_eq!(row(&line(fields.iter().copied())).unwrap(), fields);
        }
    }
}
