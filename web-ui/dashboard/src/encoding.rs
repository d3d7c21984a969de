//! Which of a file's forms a browser takes: pure but for the look-up that the caller brings.

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// How a file was compressed when it was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Brotli,
    Gzip,
    None,
}

impl Encoding {
    /// The compressed ones, the smallest first.
    pub(crate) const ALL: [Encoding; 2] = [Encoding::Brotli, Encoding::Gzip];

    /// As in `content-encoding`.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Encoding::Brotli => Some("br"),
            Encoding::Gzip => Some("gzip"),
            Encoding::None => None,
        }
    }

    /// What the name of such a file ends with.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Encoding::Brotli => ".br",
            Encoding::Gzip => ".gz",
            Encoding::None => "",
        }
    }
}

/// The first compressed form that there is and that the caller takes.
pub(crate) fn best<F>(headers: &HeaderMap, find: impl Fn(Encoding) -> Option<F>) -> Option<(Encoding, F)> {
    let accepted = headers
        .get(ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let wanted = Encoding::ALL.into_iter().filter(|encoding| takes(accepted, *encoding));
    wanted
        .filter_map(|encoding| find(encoding).map(|found| (encoding, found)))
        .next()
}

fn takes(accepted: &str, encoding: Encoding) -> bool {
    accepted.split(',').any(|one| {
        let (name, weight) = one.split_once(';').unwrap_or((one, ""));
        let refused = weight
            .trim()
            .trim_start_matches("q=")
            .trim_matches(['0', '.'])
            .is_empty()
            && weight.contains("q=");
        encoding.name() == Some(name.trim()) && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_smallest_form_that_is_there_and_accepted() {
        let cases = [
            ("gzip, deflate, br", "br gz", Encoding::Brotli),
            ("gzip, deflate, br", "gz", Encoding::Gzip),
            ("gzip;q=0.5", "br gz", Encoding::Gzip),
            ("br;q=0, gzip", "br gz", Encoding::Gzip),
            ("br;q=0.0", "br gz", Encoding::None),
            ("", "br gz", Encoding::None),
            ("br", "", Encoding::None),
        ];
        for (accepted, there, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, accepted.parse().expect("a header"));
            let found = best(&headers, |encoding| {
                there.contains(encoding.ending().trim_start_matches('.')).then_some(())
            });
            assert_eq!(
                found.map_or(Encoding::None, |(encoding, ())| encoding),
                expected,
                "{accepted:?} {there:?}"
            );
        }
    }
}
