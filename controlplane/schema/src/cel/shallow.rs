//! How deep an expression may become, told from its text: the parser recurses, and what overflows the stack ends the process.
//!
//! The text is split as CEL's lexer splits it. Where the lexer would drop a character and go on, nothing can be told, and
//! the text is no expression anyway: it is refused, as are brackets that do not match.

use super::CompileError;

/// How deep an expression a text may become: seen by its brackets, and by its operators in a row, of which `&&` and `||`
/// are balanced by the parser.
///
/// # Errors
/// When it may be much deeper than `max`, or when its strings or brackets are broken.
pub(super) fn depth(source: &str, max: usize) -> Result<usize, CompileError> {
    let mut open = vec![Scope::default()];
    let (mut rest, mut deepest) = (source, 0);
    while !rest.is_empty() {
        let (token, tail) = next(rest).ok_or_else(|| syntax(source, rest))?;
        follow(&mut open, token).ok_or_else(|| syntax(source, rest))?;
        rest = tail;
        let steps: usize = open.iter().map(|scope| scope.row + scope.choices).sum();
        if open.len() > max || steps > 4 * max {
            return Err(CompileError::TooLarge("the expression is nested too deeply"));
        }
        deepest = deepest.max(open.len() + steps);
    }
    match open.len() {
        1 => Ok(deepest),
        _ => Err(syntax(source, "")),
    }
}

/// What is open: the whole text, or a bracket.
#[derive(Default)]
struct Scope {
    /// The bracket that closes it.
    end: Option<char>,
    /// Operators that may each be one level.
    row: usize,
    /// Conditions: whatever follows one is below it.
    choices: usize,
}

enum Token {
    Open(char),
    Close(char),
    /// Begins another element of a list.
    Comma,
    /// `&&` or `||`.
    Logic,
    Condition,
    Operator,
    /// A name, a literal, space: takes no depth.
    Flat,
}

fn follow(open: &mut Vec<Scope>, token: Token) -> Option<()> {
    match token {
        Token::Open(end) => open.push(Scope {
            end: Some(end),
            ..Scope::default()
        }),
        Token::Close(bracket) => {
            let closed = open.pop()?;
            (closed.end == Some(bracket)).then_some(())?;
            // An index or a call is a level of the row that it stands in.
            open.last_mut()?.row += 1;
        }
        Token::Comma => (open.last_mut()?.row, open.last_mut()?.choices) = (0, 0),
        Token::Logic => open.last_mut()?.row = 0,
        Token::Condition => open.last_mut()?.choices += 1,
        Token::Operator => open.last_mut()?.row += 1,
        Token::Flat => {}
    }
    Some(())
}

/// The first token of a text that is not empty, and what follows it.
fn next(text: &str) -> Option<(Token, &str)> {
    let (token, length) = match text.chars().next()? {
        '(' => (Token::Open(')'), 1),
        '[' => (Token::Open(']'), 1),
        '{' => (Token::Open('}'), 1),
        c @ (')' | ']' | '}') => (Token::Close(c), 1),
        ',' => (Token::Comma, 1),
        '?' => (Token::Condition, 1),
        '&' | '|' => (Token::Logic, 1),
        '/' if text.starts_with("//") => (Token::Flat, text.find('\n').unwrap_or(text.len())),
        '.' | '+' | '-' | '*' | '/' | '%' | '!' | '<' | '>' | '=' => (Token::Operator, 1),
        '"' | '\'' => (Token::Flat, literal(text, false)?),
        '`' => (Token::Flat, text.get(1..)?.find('`')? + 2),
        c if c.is_ascii_alphabetic() || c == '_' => word(text)?,
        c => (Token::Flat, c.len_utf8()),
    };
    Some((token, text.get(length..)?))
}

/// A name, the operator `in`, or a string with a prefix.
fn word(text: &str) -> Option<(Token, usize)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    let quoted = rest.starts_with(['"', '\'']);
    match name {
        "in" => Some((Token::Operator, name.len())),
        "b" | "B" if quoted => Some((Token::Flat, name.len() + literal(rest, false)?)),
        "r" | "R" | "br" | "bR" | "Br" | "BR" if quoted => Some((Token::Flat, name.len() + literal(rest, true)?)),
        _ => Some((Token::Flat, name.len())),
    }
}

/// The length of the string that a text begins with; `None` when it does not end or has an escape that there is not.
fn literal(text: &str, raw: bool) -> Option<usize> {
    let quote = text.get(..1)?;
    let long = text.get(..3).filter(|begin| *begin == quote.repeat(3));
    let end = long.unwrap_or(quote);
    let mut at = end.len();
    loop {
        let rest = text.get(at..)?;
        if rest.starts_with(end) {
            return Some(at + end.len());
        }
        at += match rest.chars().next()? {
            '\\' if !raw => escape(rest)?,
            '\n' | '\r' if long.is_none() => return None,
            c => c.len_utf8(),
        };
    }
}

/// The length of the escape sequence that a text begins with.
fn escape(text: &str) -> Option<usize> {
    let (length, radix) = match text.chars().nth(1)? {
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`' => return Some(2),
        'x' | 'X' => (4, 16),
        'u' => (6, 16),
        'U' => (10, 16),
        '0'..='3' => (4, 8),
        _ => return None,
    };
    let digits = text.get(if radix == 8 { 1 } else { 2 }..length)?;
    digits.chars().all(|c| c.is_digit(radix)).then_some(length)
}

fn syntax(source: &str, rest: &str) -> CompileError {
    let before = source.get(..source.len() - rest.len()).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let found = rest.chars().next().map_or("<EOF>".to_owned(), |c| c.to_string());
    CompileError::Syntax(format!(
        "ERROR: <input>:{line}:{column}: Syntax error: token recognition error at: '{found}'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parses(source: &str) -> Result<(), CompileError> {
        super::super::parse(source).map(drop)
    }

    #[test]
    fn what_is_deep_is_refused_however_it_hides() {
        for (before, level, after) in [
            ("", "(", ""),
            ("'", "(", ""),
            ("r'\\' + ", "(", " + '"),
            ("", "(')'", ""),
            ("", "( //)\n", ""),
            ("", "(]", ""),
            ("", "[{", ""),
            ("'''\n''' + ", "(", ""),
            ("'\\q", "(", ""),
            ("`", "(", ""),
            ("a", "[0]", ""),
            ("a", ".a", ""),
            ("a", ".a(1)", ""),
            ("a", " in a", ""),
            ("a", " == a", ""),
            ("", "a ? b || c : ", "d"),
            ("", "a ? ", "d"),
            ("", "-", "1"),
            ("", "!", "true"),
        ] {
            let source = format!("{before}{}{after}", level.repeat(16_000 / level.len()));
            assert!(parses(&source).is_err(), "{before}{level}{level}{level}");
        }
    }

    #[test]
    fn what_is_just_shallow_enough_is_parsed_within_the_stack_of_a_thread() {
        for level in [
            "(", "[", "{1:", "-(", "a?b:(", "f(", "a.all(x,", "a[", "(1+", "(true &&",
        ] {
            let depth = 98;
            let ends = level.rfind(['(', '[', '{']).map(|at| match &level[at..=at] {
                "(" => ")",
                "[" => "]",
                _ => "}",
            });
            let row = " + 1".repeat(90);
            let source = format!(
                "{}1{row}{}",
                level.repeat(depth),
                ends.unwrap_or_default().repeat(depth)
            );
            let _ = parses(&source); // that it returns is the point
        }
        let _ = parses(&format!("a{}", "[0]".repeat(390)));
        let _ = parses(&format!("{}d", "a ? b : ".repeat(390)));
    }

    #[test]
    fn strings_and_comments_hide_brackets() {
        for source in [
            "'(((' + \")\" == r'\\(' // (((",
            "b'\\x41(' == bR\"[\"",
            "'''it's\n(''' == \"\"\"\"(\"\"\"",
            "self.`a/b` == '\\u00e4\\U0001F600\\101'",
            "[1, 2, (3)].all(x, x in {'a': 1})",
        ] {
            assert!(depth(source, 10).is_ok(), "{source}");
        }
    }

    #[test]
    fn many_side_by_side_are_not_deep() {
        let all = |part: &str, by: &str| vec![part; 500].join(by);
        assert!(depth(&all("a == b", " && "), 100).is_ok());
        assert!(depth(&format!("[{}]", all("f(1)", ", ")), 100).is_ok());
    }

    #[test]
    fn what_is_broken_is_told_with_its_place() {
        let words = |source| depth(source, 10).unwrap_err().to_string();
        assert_eq!(
            words("a &&\n 'b"),
            "compilation failed: ERROR: <input>:2:2: Syntax error: token recognition error at: '''"
        );
        assert_eq!(
            words("(a"),
            "compilation failed: ERROR: <input>:1:3: Syntax error: token recognition error at: '<EOF>'"
        );
    }
}
