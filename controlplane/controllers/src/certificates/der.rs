//! DER, as far as a certificate needs it (X.690).

/// A value with its tag and length.
pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = content.len().to_be_bytes();
            let length: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            out.push(0x80 | u8::try_from(length.len()).unwrap_or_default());
            out.extend(length);
        }
    }
    out.extend_from_slice(content);
    out
}

pub(super) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// An unsigned integer.
pub(super) fn integer(value: u128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let mut digits: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    if digits.first().is_none_or(|first| first & 0x80 != 0) {
        digits.insert(0, 0);
    }
    tlv(0x02, &digits)
}

/// An object identifier from its dotted form.
pub(super) fn oid(dotted: &str) -> Vec<u8> {
    let mut numbers = dotted.split('.').filter_map(|number| number.parse::<u64>().ok());
    let (first, second) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let mut content = Vec::new();
    for number in std::iter::once(first * 40 + second).chain(numbers) {
        let groups = (64 - number.max(1).leading_zeros()).div_ceil(7);
        for group in (0..groups).rev() {
            let more = if group == 0 { 0 } else { 0x80 };
            content.push(more | u8::try_from((number >> (7 * group)) & 0x7f).unwrap_or_default());
        }
    }
    tlv(0x06, &content)
}

/// Named bits, the first of them highest (RFC 5280's KeyUsage); trailing zeros are left out.
pub(super) fn bits(set: u16) -> Vec<u8> {
    let unused = set.trailing_zeros().min(15);
    let bytes = set.to_be_bytes();
    let length = if unused >= 8 { 1 } else { 2 };
    let mut content = vec![u8::try_from(unused % 8).unwrap_or_default()];
    content.extend(bytes.into_iter().take(length));
    tlv(0x03, &content)
}

/// A bit string of whole bytes.
pub(super) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], bytes].concat())
}

/// A point in time as certificates write it: two digits of the year until 2049.
pub(super) fn time(at: jiff::Timestamp) -> Vec<u8> {
    let short = at.to_zoned(jiff::tz::TimeZone::UTC).year() < 2050;
    match short {
        true => tlv(0x17, at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()),
        false => tlv(0x18, at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()),
    }
}

/// An extension of a certificate.
pub(super) fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { tlv(0x01, &[0xff]) } else { Vec::new() };
    sequence(&[oid(id), critical, tlv(0x04, value)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_x690_has_it() {
        assert_eq!(oid("2.5.29.15"), [6, 3, 0x55, 0x1d, 0x0f]);
        assert_eq!(oid("1.3.6.1.4.1.311"), [6, 7, 0x2b, 6, 1, 4, 1, 0x82, 0x37]);
        assert_eq!(integer(0), [2, 1, 0]);
        assert_eq!(integer(0x80), [2, 2, 0, 0x80]);
        assert_eq!(bits(0b1010_0000_0000_0000), [3, 2, 5, 0xa0]);
        assert_eq!(bits(0x0080), [3, 3, 7, 0, 0x80]);
        assert_eq!(tlv(4, &[0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(tlv(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
        let at = |text: &str| String::from_utf8(time(text.parse().unwrap())[2..].to_vec()).unwrap();
        assert_eq!(at("2049-12-31T23:59:59Z"), "491231235959Z");
        assert_eq!(at("2050-01-01T00:00:00Z"), "20500101000000Z");
    }
}
