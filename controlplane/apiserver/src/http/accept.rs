//! Content negotiation: in which form and encoding an answer goes out.

use api::Status;

/// What of an object goes along with a table row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Metadata,
    Table,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
}

/// The outcome of a negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) form: Form,
    pub(crate) encoding: Encoding,
}

impl Accepted {
    pub(crate) const JSON: Accepted = Accepted {
        form: Form::Object,
        encoding: Encoding::Json,
    };
}

const OFFERED: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

/// One clause of an `Accept` header.
struct Clause<'a> {
    media_type: &'a str,
    /// Thousandths.
    quality: u32,
    as_: Option<&'a str>,
    group: Option<&'a str>,
    version: Option<&'a str>,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut clause = Clause {
            media_type: parts.next().unwrap_or_default(),
            quality: 1000,
            as_: None,
            group: None,
            version: None,
        };
        for (name, value) in parts.filter_map(|p| p.split_once('=')) {
            match name.trim() {
                "q" => clause.quality = (value.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0) as u32,
                "as" => clause.as_ = Some(value),
                "g" => clause.group = Some(value),
                "v" => clause.version = Some(value),
                _ => {}
            }
        }
        clause
    }

    fn encoding(&self) -> Option<Encoding> {
        match self.media_type {
            "application/json" | "application/*" | "*/*" => Some(Encoding::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" => Some(Encoding::Yaml),
            _ => None,
        }
    }

    fn form(&self) -> Option<Form> {
        let Some(as_) = self.as_ else { return Some(Form::Object) };
        if self.group != Some("meta.k8s.io") || self.version != Some("v1") {
            return None;
        }
        match as_ {
            "Table" => Some(Form::Table),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Form::Metadata),
            _ => None,
        }
    }

    fn accepted(&self) -> Option<Accepted> {
        (self.quality > 0).then_some(())?;
        Some(Accepted {
            encoding: self.encoding()?,
            form: self.form()?,
        })
    }
}

/// The best of what an `Accept` header asks for and this server offers; protobuf is passed over for the next clause.
pub(crate) fn negotiate(accept: Option<&str>) -> Result<Accepted, Status> {
    let accept = match accept.map(str::trim) {
        None | Some("" | "application/json" | "*/*") => return Ok(Accepted::JSON),
        Some(accept) => accept,
    };
    let mut best: Option<(u32, Accepted)> = None;
    for clause in accept.split(',').map(Clause::parse) {
        let Some(accepted) = clause.accepted() else { continue };
        if best.is_none_or(|(quality, _)| clause.quality > quality) {
            best = Some((clause.quality, accepted));
        }
    }
    best.map(|(_, accepted)| accepted)
        .ok_or_else(|| Status::not_acceptable(&OFFERED))
}

/// Whether an `Accept` header names this media type with these parameters; for discovery.
pub(crate) fn names(accept: Option<&str>, as_: &str, group: &str, version: &str) -> bool {
    accept.unwrap_or_default().split(',').map(Clause::parse).any(|c| {
        c.encoding() == Some(Encoding::Json)
            && c.as_ == Some(as_)
            && c.group == Some(group)
            && c.version == Some(version)
    })
}

/// The first offer, in the client's order of preference, that an `Accept` header takes; the first of all without a header.
pub(crate) fn choose<T: Copy>(accept: Option<&str>, offers: &[(&'static str, T)]) -> Option<T> {
    let Some(accept) = accept.map(str::trim).filter(|accept| !accept.is_empty()) else {
        return offers.first().map(|(_, offer)| *offer);
    };
    let mut clauses: Vec<Clause<'_>> = accept.split(',').map(Clause::parse).filter(|c| c.quality > 0).collect();
    clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
    clauses.iter().find_map(|clause| {
        let takes = |media: &str| match clause.media_type {
            "*/*" => true,
            range => range == media || range.strip_suffix('*').is_some_and(|prefix| media.starts_with(prefix)),
        };
        offers.iter().find(|(media, _)| takes(media)).map(|(_, offer)| *offer)
    })
}

/// Whether `Accept-Encoding` allows gzip.
pub(crate) fn takes_gzip(accept_encoding: Option<&str>) -> bool {
    accept_encoding
        .unwrap_or_default()
        .split(',')
        .map(Clause::parse)
        .any(|c| c.media_type == "gzip" && c.quality > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_among_offers_in_the_clients_order() {
        let offers = [("application/json", 'j'), ("application/x@y", 'p')];
        let cases = [
            (None, Some('j')),
            (Some(""), Some('j')),
            (Some("*/*"), Some('j')),
            (Some("application/*"), Some('j')),
            (Some("application/x@y"), Some('p')),
            (Some("text/html, application/x@y"), Some('p')),
            (Some("application/json;q=0.3, application/x@y"), Some('p')),
            (Some("application/json;q=0"), None),
            (Some("text/html"), None),
        ];
        for (accept, expected) in cases {
            assert_eq!(choose(accept, &offers), expected, "{accept:?}");
        }
    }

    #[test]
    fn chooses_what_the_client_prefers_and_the_server_has() {
        let json = Some(Accepted::JSON);
        let table = Some(Accepted {
            form: Form::Table,
            encoding: Encoding::Json,
        });
        let metadata = Some(Accepted {
            form: Form::Metadata,
            encoding: Encoding::Json,
        });
        let yaml = Some(Accepted {
            form: Form::Object,
            encoding: Encoding::Yaml,
        });
        let cases = [
            (None, json),
            (Some(""), json),
            (Some("*/*"), json),
            (Some("application/vnd.kubernetes.protobuf, */*"), json),
            (Some("application/vnd.kubernetes.protobuf,application/json"), json),
            (
                Some("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
                table,
            ),
            (
                Some("application/json;as=Table;g=meta.k8s.io;v=v1beta1,application/json"),
                json,
            ),
            (
                Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
                metadata,
            ),
            (Some("application/json;q=0.5, application/yaml"), yaml),
            (Some("application/yaml;q=0, application/json;stream=watch"), json),
            (Some("application/vnd.kubernetes.protobuf"), None),
            (Some("text/html"), None),
        ];
        for (accept, expected) in cases {
            assert_eq!(negotiate(accept).ok(), expected, "{accept:?}");
        }
    }
}
