//! The query string: decoded pairs, and the option structs of Kubernetes read from them.

use std::borrow::Cow;

use api::Status;

/// The decoded pairs of a query string, in order.
#[derive(Debug, Default)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(crate) fn parse(raw: &'a str) -> Self {
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        });
        Query(pairs.collect())
    }

    /// The first value under a key; `None` when it is absent or empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(k, _)| k == key)?;
        (!value.is_empty()).then_some(value.as_ref())
    }

    pub(crate) fn all<'s>(&'s self, key: &'s str) -> impl Iterator<Item = &'s str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_ref())
    }

    /// A boolean as Kubernetes reads one: `false` and `0` are false, anything else that is present is true.
    pub(crate) fn bool(&self, key: &str) -> Option<bool> {
        let (_, value) = self.0.iter().find(|(k, _)| k == key)?;
        Some(!(value.eq_ignore_ascii_case("false") || value == "0"))
    }

    /// Whether a key is there at all.
    pub(crate) fn present(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.bool(key).unwrap_or(false)
    }

    pub(crate) fn int(&self, key: &str) -> Result<Option<i64>, Status> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let parsed = value
            .parse()
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {value:?}: invalid syntax")))?;
        Ok(Some(parsed))
    }
}

/// Undoes percent-encoding; what is not valid stays as it is. `plus` also turns `+` into a space.
pub(crate) fn decode(text: &str, plus: bool) -> Cow<'_, str> {
    if !text.bytes().any(|b| b == b'%' || (plus && b == b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let (byte, next) = match (byte, tail) {
            (b'+', _) if plus => (b' ', tail),
            (b'%', [high, low, after @ ..]) => match (nibble(*high), nibble(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', tail),
            },
            _ => (byte, tail),
        };
        out.push(byte);
        rest = next;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn nibble(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_pairs_as_browsers_and_go_encode_them() {
        let query = Query::parse("labelSelector=app%3Dweb%2Ctier+in+%28a%29&watch=1&empty=&bad=%zz%4");
        assert_eq!(query.get("labelSelector"), Some("app=web,tier in (a)"));
        assert!(query.flag("watch"));
        assert_eq!(query.get("empty"), None);
        assert_eq!(query.get("bad"), Some("%zz%4"));
    }

    #[test]
    fn reads_booleans_as_kubernetes_does() {
        let query = Query::parse("a=false&b=0&c=true&d=yes&e");
        let read = |k| query.bool(k);
        assert_eq!(
            ["a", "b", "c", "d", "e", "f"].map(read),
            [Some(false), Some(false), Some(true), Some(true), Some(true), None]
        );
    }

    #[test]
    fn refuses_numbers_that_are_none() {
        let status = Query::parse("limit=ten").int("limit").unwrap_err();
        assert!(status.message.contains("parsing \"ten\""), "{status:?}");
    }
}
