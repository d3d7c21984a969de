//! What a CertificateSigningRequest asks for: its PKCS #10 request, its usages, and whether they are what a signer signs.
//! The messages are Kubernetes': users read them in the condition `Failed`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::Object;
use base64::{Engine, engine::general_purpose::STANDARD};
use x509_parser::{
    pem::parse_x509_pem,
    prelude::{FromDer, GeneralName, ParsedExtension, X509CertificationRequest},
    x509::X509Name,
};

use super::{CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY};

const NODES: &str = "system:nodes";
const NODE: &str = "system:node:";

/// An attribute of a subject: its type as a dotted OID, the tag of its text, and the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) oid: String,
    pub(super) tag: u8,
    pub(super) text: Vec<u8>,
}

/// A name that a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AltName {
    Dns(String),
    Email(String),
    Uri(String),
    Ip(IpAddr),
}

/// A request, parsed. Its signature has been verified.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    /// The last common name, as Go reads subjects.
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    /// What a certificate's subject has of the request's.
    pub(super) subject: Vec<Attribute>,
    pub(super) names: Vec<AltName>,
    /// DER of the SubjectPublicKeyInfo.
    pub(super) public_key: Vec<u8>,
    pub(super) usages: BTreeSet<String>,
}

const COMMON_NAME: &str = "2.5.4.3";
const ORGANIZATION: &str = "2.5.4.10";
/// Country, organization, unit, locality, province, street, postal code, serial number: what subjects keep beside the name.
const KEPT: [&str; 8] = [
    "2.5.4.6",
    ORGANIZATION,
    "2.5.4.11",
    "2.5.4.7",
    "2.5.4.8",
    "2.5.4.9",
    "2.5.4.17",
    "2.5.4.5",
];

impl Parsed {
    /// Reads the spec of a CertificateSigningRequest; `None` where it holds no sound request.
    pub(super) fn of(object: &Object) -> Option<Self> {
        let pem = STANDARD.decode(object.str_at("spec.request")?).ok()?;
        let (_, block) = parse_x509_pem(&pem).ok()?;
        let (_, request) = X509CertificationRequest::from_der(&block.contents).ok()?;
        request.verify_signature().ok()?;
        let info = &request.certification_request_info;
        let all = attributes(&info.subject);
        let texts = |oid: &str| -> Vec<String> {
            let of = all.iter().filter(|attribute| attribute.oid == oid);
            of.map(|attribute| String::from_utf8_lossy(&attribute.text).into_owned())
                .collect()
        };
        let usages = object.list_at("spec.usages").iter();
        Some(Self {
            common_name: texts(COMMON_NAME).pop().unwrap_or_default(),
            organizations: texts(ORGANIZATION),
            subject: kept(&all),
            names: alternative_names(&request),
            public_key: info.subject_pki.raw.to_vec(),
            usages: usages.filter_map(|usage| usage.as_str().map(str::to_owned)).collect(),
        })
    }

    fn has(&self, kind: fn(&AltName) -> bool) -> bool {
        self.names.iter().any(kind)
    }

    /// Whether the usages are these, or these but for the one that only RSA keys need.
    fn uses(&self, purpose: &str) -> Result<(), String> {
        let wanted = |usages: &[&str]| self.usages.iter().map(String::as_str).eq(usages.iter().copied());
        let full = ["digital signature", "key encipherment", purpose];
        let (mut sorted, mut short) = (full, ["digital signature", purpose]);
        sorted.sort_unstable();
        short.sort_unstable();
        match wanted(&sorted) || wanted(&short) {
            true => Ok(()),
            false => Err(format!("usages did not match [{}]", sorted.join(" "))),
        }
    }
}

fn attributes(name: &X509Name<'_>) -> Vec<Attribute> {
    let attribute = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| Attribute {
        oid: a.attr_type().to_id_string(),
        tag: u8::try_from(a.attr_value().header.tag().0).unwrap_or_default(),
        text: a.attr_value().data.to_vec(),
    };
    name.iter_attributes().map(attribute).collect()
}

/// The attributes that a certificate gets: one common name, so that nobody can read another from it.
fn kept(all: &[Attribute]) -> Vec<Attribute> {
    let known = all.iter().filter(|attribute| KEPT.contains(&attribute.oid.as_str()));
    let name = all.iter().rfind(|attribute| attribute.oid == COMMON_NAME);
    known.chain(name).cloned().collect()
}

fn alternative_names(request: &X509CertificationRequest<'_>) -> Vec<AltName> {
    let extensions = request.requested_extensions().into_iter().flatten();
    let lists = extensions.filter_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    lists.flatten().filter_map(alternative_name).collect()
}

fn alternative_name(name: &GeneralName<'_>) -> Option<AltName> {
    match name {
        GeneralName::DNSName(name) => Some(AltName::Dns((*name).to_owned())),
        GeneralName::RFC822Name(name) => Some(AltName::Email((*name).to_owned())),
        GeneralName::URI(name) => Some(AltName::Uri((*name).to_owned())),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| AltName::Ip(b.into())),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| AltName::Ip(b.into())),
        },
        _ => None,
    }
}

/// Whether a signer signs the request; `None` for signers that are not the cluster's, `Err` says why not.
pub(super) fn judge(signer: &str, request: &Parsed) -> Option<Result<(), String>> {
    match signer {
        CLIENT => Some(client(request)),
        KUBELET_CLIENT => Some(kubelet_client(request)),
        KUBELET_SERVING => Some(kubelet_serving(request)),
        LEGACY => Some(Ok(())),
        _ => None,
    }
}

fn client(request: &Parsed) -> Result<(), String> {
    let allowed = ["client auth", "digital signature", "key encipherment"];
    if let Some(usage) = request.usages.iter().find(|usage| !allowed.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {usage}"));
    }
    match request.usages.contains("client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_owned()),
    }
}

/// Whether this is a kubelet's request for a certificate to show to the API server.
pub(super) fn kubelet_client(request: &Parsed) -> Result<(), String> {
    let refuse = |why: &str| Err(why.to_owned());
    if request.organizations != [NODES] {
        return refuse("subject organization is not system:nodes");
    }
    for (kind, why) in [
        (
            (|n| matches!(n, AltName::Dns(_))) as fn(&AltName) -> bool,
            "DNS subjectAltNames are not allowed",
        ),
        (
            |n| matches!(n, AltName::Email(_)),
            "Email subjectAltNames are not allowed",
        ),
        (|n| matches!(n, AltName::Ip(_)), "IP subjectAltNames are not allowed"),
        (|n| matches!(n, AltName::Uri(_)), "URI subjectAltNames are not allowed"),
    ] {
        if request.has(kind) {
            return refuse(why);
        }
    }
    if !request.common_name.starts_with(NODE) {
        return refuse("subject common name does not begin with system:node:");
    }
    request.uses("client auth")
}

/// The same for a certificate of the kubelet API.
pub(super) fn kubelet_serving(request: &Parsed) -> Result<(), String> {
    let refuse = |why: &str| Err(why.to_owned());
    if request.organizations != [NODES] {
        return refuse("subject organization is not system:nodes");
    }
    if !request.has(|n| matches!(n, AltName::Dns(_) | AltName::Ip(_))) {
        return refuse("DNS or IP subjectAltName is required");
    }
    if request.has(|n| matches!(n, AltName::Email(_))) {
        return refuse("Email subjectAltNames are not allowed");
    }
    if request.has(|n| matches!(n, AltName::Uri(_))) {
        return refuse("URI subjectAltNames are not allowed");
    }
    request.uses("server auth")?;
    match request.common_name.starts_with(NODE) {
        true => Ok(()),
        false => refuse("subject common name does not begin with system:node:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, organizations: &[&str], names: &[AltName], usages: &[&str]) -> Parsed {
        Parsed {
            common_name: name.to_owned(),
            organizations: organizations.iter().map(|o| (*o).to_owned()).collect(),
            subject: Vec::new(),
            names: names.to_vec(),
            public_key: Vec::new(),
            usages: usages.iter().map(|u| (*u).to_owned()).collect(),
        }
    }

    #[test]
    fn each_signer_signs_what_it_is_for() {
        let (sign, encipher) = ("digital signature", "key encipherment");
        let dns = AltName::Dns("n".to_owned());
        let (client, server) = ([sign, "client auth"], [sign, encipher, "server auth"]);
        let cases = [
            (CLIENT, request("jane", &[], &[], &client), Ok(())),
            (
                CLIENT,
                request("jane", &[], &[], &server),
                Err("invalid usage for client certificate: server auth"),
            ),
            (
                CLIENT,
                request("jane", &[], &[], &[sign]),
                Err("missing required usage for client certificate: client auth"),
            ),
            (KUBELET_CLIENT, request("system:node:n", &[NODES], &[], &client), Ok(())),
            (
                KUBELET_CLIENT,
                request("system:node:n", &[NODES, "x"], &[], &client),
                Err("subject organization is not system:nodes"),
            ),
            (
                KUBELET_CLIENT,
                request("system:node:n", &[NODES], std::slice::from_ref(&dns), &client),
                Err("DNS subjectAltNames are not allowed"),
            ),
            (
                KUBELET_CLIENT,
                request("jane", &[NODES], &[], &client),
                Err("subject common name does not begin with system:node:"),
            ),
            (
                KUBELET_CLIENT,
                request("system:node:n", &[NODES], &[], &server),
                Err("usages did not match [client auth digital signature key encipherment]"),
            ),
            (
                KUBELET_SERVING,
                request("system:node:n", &[NODES], std::slice::from_ref(&dns), &server),
                Ok(()),
            ),
            (
                KUBELET_SERVING,
                request("system:node:n", &[NODES], &[], &server),
                Err("DNS or IP subjectAltName is required"),
            ),
            (LEGACY, request("anything", &[], &[], &[]), Ok(())),
        ];
        for (signer, request, expected) in cases {
            let found = judge(signer, &request).unwrap();
            assert_eq!(found, expected.map_err(str::to_owned), "{signer} {request:?}");
        }
        assert!(judge("example.com/x", &request("x", &[], &[], &[])).is_none());
    }

    #[test]
    fn a_second_common_name_is_dropped() {
        let name = |text: &str| Attribute {
            oid: COMMON_NAME.to_owned(),
            tag: 12,
            text: text.as_bytes().to_vec(),
        };
        assert_eq!(
            kept(&[name("kubernetes-admin"), name("system:node:n")]),
            [name("system:node:n")]
        );
    }
}
