//! As much TOML as a `hosts.toml` is written in, in the order it is written. Pure.
//!
//! Tables, bare and quoted keys, dotted keys, strings on one line, whole numbers, booleans, lists over several lines, and
//! comments. What else TOML has (dates, fractions, inline tables, lists of tables, strings over several lines) no registry
//! configuration needs; it is refused, with the line, rather than guessed at.

/// A table: keys and values as they stand in the file. Mirrors are tried in that order.
pub(super) type Table = Vec<(String, Value)>;

/// How deep lists may be nested.
const MAX_DEPTH: u32 = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Number(i64),
    List(Vec<Value>),
    Table(Table),
}

/// The file does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(super) struct SyntaxError {
    line: usize,
    problem: String,
}

/// The value of a key.
pub(super) fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    table.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

/// Parses a whole file.
pub(super) fn parse(text: &str) -> Result<Table, SyntaxError> {
    let mut reader = Reader { rest: text, line: 1 };
    let (mut root, mut current) = (Table::new(), Vec::new());
    loop {
        reader.skip_lines();
        match reader.peek() {
            None => return Ok(root),
            Some('[') => {
                current = reader.header()?;
                reader.table(&mut root, &current)?;
            }
            Some(_) => {
                let (key, value) = reader.pair()?;
                let path = [current.as_slice(), key.as_slice()].concat();
                reader.insert(&mut root, &path, value)?;
            }
        }
        reader.end_of_line()?;
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn error<T>(&self, problem: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError {
            line: self.line,
            problem: problem.into(),
        })
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.line += usize::from(next == '\n');
        self.rest = chars.as_str();
        Some(next)
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), SyntaxError> {
        match self.take(wanted) {
            true => Ok(()),
            false => self.error(format!("expected '{wanted}'")),
        }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn skip_comment(&mut self) {
        if self.peek() == Some('#') {
            self.rest = self
                .rest
                .find('\n')
                .map_or("", |end| self.rest.get(end..).unwrap_or(""));
        }
    }

    /// Blanks, comments and ends of lines.
    fn skip_lines(&mut self) {
        loop {
            self.skip_blanks();
            self.skip_comment();
            if !matches!(self.peek(), Some('\n' | '\r')) {
                return;
            }
            self.next();
        }
    }

    fn end_of_line(&mut self) -> Result<(), SyntaxError> {
        self.skip_blanks();
        self.skip_comment();
        match self.peek() {
            None | Some('\n' | '\r') => Ok(()),
            Some(found) => self.error(format!("unexpected '{found}'")),
        }
    }

    /// `[a."b c"]`
    fn header(&mut self) -> Result<Vec<String>, SyntaxError> {
        self.expect('[')?;
        if self.peek() == Some('[') {
            return self.error("lists of tables are not used here");
        }
        let key = self.key()?;
        self.expect(']')?;
        Ok(key)
    }

    /// `a.b = value`
    fn pair(&mut self) -> Result<(Vec<String>, Value), SyntaxError> {
        let key = self.key()?;
        self.expect('=')?;
        self.skip_blanks();
        Ok((key, self.value(0)?))
    }

    fn key(&mut self) -> Result<Vec<String>, SyntaxError> {
        let mut parts = Vec::new();
        loop {
            self.skip_blanks();
            parts.push(match self.peek() {
                Some('"' | '\'') => self.string()?,
                _ => self.bare()?,
            });
            self.skip_blanks();
            if !self.take('.') {
                return Ok(parts);
            }
        }
    }

    fn bare(&mut self) -> Result<String, SyntaxError> {
        let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let end = self.rest.find(|c| !is_bare(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() {
            return self.error("expected a key");
        }
        self.rest = rest;
        Ok(word.to_owned())
    }

    fn value(&mut self, depth: u32) -> Result<Value, SyntaxError> {
        match self.peek() {
            Some('"' | '\'') => Ok(Value::Text(self.string()?)),
            Some('[') if depth < MAX_DEPTH => self.list(depth + 1),
            Some('[') => self.error("lists are nested too deep"),
            _ => self.word(),
        }
    }

    fn list(&mut self, depth: u32) -> Result<Value, SyntaxError> {
        self.expect('[')?;
        let mut items = Vec::new();
        loop {
            self.skip_lines();
            if self.take(']') {
                return Ok(Value::List(items));
            }
            items.push(self.value(depth)?);
            self.skip_lines();
            if !self.take(',') && self.peek() != Some(']') {
                return self.error("expected ',' or ']'");
            }
        }
    }

    fn word(&mut self) -> Result<Value, SyntaxError> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '.' | ':');
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let value = match word {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            number => match number.replace('_', "").parse() {
                Ok(number) => Value::Number(number),
                Err(_) => return self.error("expected a string, a list, a whole number, true or false"),
            },
        };
        self.rest = rest;
        Ok(value)
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let Some(quote) = self.next() else {
            return self.error("expected a string");
        };
        let mut text = String::new();
        loop {
            match self.peek() {
                None | Some('\n' | '\r') => return self.error("a string does not end on its line"),
                Some('\\') if quote == '"' => text.push(self.escape()?),
                Some(found) => {
                    self.next();
                    if found == quote {
                        return Ok(text);
                    }
                    text.push(found);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        self.next();
        let digits = match self.next() {
            Some('n') => return Ok('\n'),
            Some('t') => return Ok('\t'),
            Some('r') => return Ok('\r'),
            Some(same @ ('"' | '\\')) => return Ok(same),
            Some('u') => 4,
            Some('U') => 8,
            _ => return self.error("unknown escape in a string"),
        };
        let (code, rest) = self.rest.split_at_checked(digits).unwrap_or(("", self.rest));
        match u32::from_str_radix(code, 16).ok().and_then(char::from_u32) {
            Some(found) => {
                self.rest = rest;
                Ok(found)
            }
            None => self.error("unknown character in a string"),
        }
    }

    /// The table at `path`, made where it is missing.
    fn table<'t>(&self, root: &'t mut Table, path: &[String]) -> Result<&'t mut Table, SyntaxError> {
        let mut table = root;
        for key in path {
            let at = match table.iter().position(|(name, _)| name == key) {
                Some(at) => at,
                None => {
                    table.push((key.clone(), Value::Table(Table::new())));
                    table.len() - 1
                }
            };
            match table.get_mut(at) {
                Some((_, Value::Table(inner))) => table = inner,
                _ => return self.error(format!("\"{key}\" is no table")),
            }
        }
        Ok(table)
    }

    fn insert(&self, root: &mut Table, path: &[String], value: Value) -> Result<(), SyntaxError> {
        let Some((key, parents)) = path.split_last() else {
            return Ok(());
        };
        let table = self.table(root, parents)?;
        if get(table, key).is_some() {
            return self.error(format!("\"{key}\" stands here twice"));
        }
        table.push((key.clone(), value));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    #[test]
    fn reads_what_registry_files_are_written_in() {
        let parsed = parse(
            "# mirrors\nserver = \"https://registry-1.docker.io\" # itself\r\n\n[host.\"https://mirror:5000\"]\n  \
             capabilities = [\"pull\",\n 'resolve', # both\n]\n  skip_verify = true\n  tries = -1_0\n\
             [host.\"https://mirror:5000\".header]\nx-a = [\"1\\u00e9\\n\"]\nclient = [[\"a\", \"b\"]]\n",
        )
        .unwrap();
        assert_eq!(get(&parsed, "server"), Some(&text("https://registry-1.docker.io")));
        let Some(Value::Table(hosts)) = get(&parsed, "host") else {
            panic!("no hosts")
        };
        let expected = vec![
            (
                "capabilities".to_owned(),
                Value::List(vec![text("pull"), text("resolve")]),
            ),
            ("skip_verify".to_owned(), Value::Flag(true)),
            ("tries".to_owned(), Value::Number(-10)),
            (
                "header".to_owned(),
                Value::Table(vec![
                    ("x-a".to_owned(), Value::List(vec![text("1é\n")])),
                    (
                        "client".to_owned(),
                        Value::List(vec![Value::List(vec![text("a"), text("b")])]),
                    ),
                ]),
            ),
        ];
        assert_eq!(hosts, &[("https://mirror:5000".to_owned(), Value::Table(expected))]);
    }

    #[test]
    fn says_where_it_does_not_understand() {
        for (file, says) in [
            ("a = 1\na = 2", "line 2: \"a\" stands here twice"),
            ("[a]\nb = 1\n[a.b]", "line 3: \"b\" is no table"),
            ("[[a]]", "line 1: lists of tables"),
            ("a = \"x\ny\"", "line 1: a string does not end"),
            ("a = 1.5", "line 1: expected a string"),
            ("a = {b = 1}", "line 1: expected a string"),
            ("a = [1 2]", "line 1: expected ',' or ']'"),
            ("a 1", "line 1: expected '='"),
            ("\n\na = 1 b", "line 3: unexpected 'b'"),
            ("a = [[[[[[[[[[1]]]]]]]]]]", "line 1: lists are nested too deep"),
            ("a = \"\\u12", "line 1: unknown character"),
        ] {
            let error = parse(file).unwrap_err().to_string();
            assert!(error.starts_with(says), "{file:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_in_the_file_it_only_errs(text in "[\\[\\]a-c.=\"'#\\\\, \n0-9é]{0,60}") {
            let _ = parse(&text);
        }
    }
}
