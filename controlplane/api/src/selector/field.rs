//! Field selectors: `metadata.name=a,spec.nodeName!=b`, with `\` escaping `\`, `,` and `=` in values.
//! A field that an object lacks reads as the empty text.

use std::fmt;

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldRequirement {
    pub field: String,
    /// `=` when true, `!=` when false.
    pub equals: bool,
    pub value: String,
}

/// All requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<FieldRequirement>);

impl FieldSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Reads the text form, as `fields.ParseSelector`.
    ///
    /// # Errors
    /// With Kubernetes' words: `invalid selector: '…'; can't understand '…'`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let terms = terms.into_iter().filter(|term| !term.is_empty());
        terms
            .map(|term| requirement(text, term))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether an object's fields, given as a look-up, are selected.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0
            .iter()
            .all(|wanted| (field(&wanted.field).unwrap_or_default() == wanted.value) == wanted.equals)
    }

    /// The conditions.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.0
    }

    /// The same selector by other names of the fields.
    ///
    /// # Errors
    /// The field that has no other name.
    pub fn renamed(mut self, name: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        for requirement in &mut self.0 {
            match name(&requirement.field) {
                Some(name) => requirement.field = name,
                None => return Err(requirement.field.clone()),
            }
        }
        Ok(self)
    }

    /// Whether every object is selected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value a field must equal, if one is asked for: lists by name or namespace need not look at all objects.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|wanted| wanted.equals && wanted.field == field)
            .map(|wanted| wanted.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, wanted) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = if wanted.equals { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", wanted.field, escape(&wanted.value))?;
        }
        Ok(())
    }
}

fn requirement(text: &str, term: &str) -> Result<FieldRequirement, String> {
    let wrong = || format!("invalid selector: '{text}'; can't understand '{term}'");
    let start = term.find(['=', '!']).ok_or_else(wrong)?;
    let mut search = start;
    loop {
        let (field, rest) = term.split_at(search);
        if let Some((equals, value)) = operator(rest) {
            return Ok(FieldRequirement {
                field: field.to_owned(),
                equals,
                value: unescape(value)?,
            });
        }
        let next = term
            .get(search + 1..)
            .and_then(|tail| tail.find(['=', '!']))
            .ok_or_else(wrong)?;
        search += 1 + next;
    }
}

fn operator(rest: &str) -> Option<(bool, &str)> {
    let equals = |value| (true, value);
    rest.strip_prefix("!=")
        .map(|value| (false, value))
        .or_else(|| rest.strip_prefix("==").map(equals))
        .or_else(|| rest.strip_prefix('=').map(equals))
}

/// Splits at commas that are not escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.extend(text.get(start..));
    terms
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(format!("invalid field selector: invalid escape sequence: \\{c}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            // Go prints the character as its number here.
            ',' | '=' => {
                return Err(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                ));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}
