use proptest::prelude::*;

use super::*;

fn quantity(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn prints_the_canonical_form() {
    for (text, want) in [
        ("0", "0"),
        ("0Gi", "0"),
        ("-0", "0"),
        ("1", "1"),
        ("+1", "1"),
        ("01", "1"),
        ("1.", "1"),
        (".5", "500m"),
        ("0.5", "500m"),
        ("100m", "100m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("-1.5", "-1500m"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1k", "1k"),
        ("1000k", "1M"),
        ("1E", "1E"),
        ("100E", "100E"),
        ("1Ki", "1Ki"),
        ("1024Ki", "1Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Mi", "512Ki"),
        ("0.5Ki", "512"),
        ("100Ki", "100Ki"),
        ("1.1Ki", "1126400m"),
        ("0.0001Ki", "102400u"),
        ("-2Ki", "-2Ki"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("1000e0", "1e3"),
        ("12e-1", "1200e-3"),
        ("5e0", "5"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("1.0000000001", "1000000001n"),
        ("1u", "1u"),
        ("1000u", "1m"),
        ("9223372036854775807", "9223372036854775807"),
        ("99999999999999999999", "9223372036854775807"),
        ("9999Ei", "9223372036854775807"),
        ("123456789", "123456789"),
        ("0.000000000000000000001", "1n"),
    ] {
        assert_eq!(quantity(text).to_string(), want, "{text}");
    }
}

#[test]
fn refuses_what_is_no_amount() {
    for (text, want) in [
        ("", BadQuantity::Format),
        ("abc", BadQuantity::Format),
        ("1 ", BadQuantity::Format),
        ("1.2.3", BadQuantity::Format),
        ("--1", BadQuantity::Suffix),
        ("1i", BadQuantity::Suffix),
        ("1mm", BadQuantity::Suffix),
        ("1ki", BadQuantity::Suffix),
        ("1e", BadQuantity::Suffix),
        ("1K", BadQuantity::Suffix),
        ("m", BadQuantity::Number),
        (".", BadQuantity::Number),
        ("1e99999999999", BadQuantity::Suffix),
        ("1é", BadQuantity::Format),
    ] {
        assert_eq!(text.parse::<Quantity>(), Err(want), "{text}");
    }
}

#[test]
fn rounds_up_and_caps() {
    assert_eq!((quantity("1n").milli(), quantity("1n").value()), (1, 1));
    assert_eq!((quantity("-1500m").milli(), quantity("-1500m").value()), (-1500, -1));
    assert_eq!(quantity("100E").value(), i64::MAX);
    assert_eq!(quantity("1e2000000000").value(), i64::MAX);
    assert_eq!(quantity("1e-2000000000"), quantity("1n"));
}

#[test]
fn adds_in_the_format_of_the_left() {
    assert_eq!((quantity("1Gi") + quantity("512Mi")).to_string(), "1536Mi");
    assert_eq!((Quantity::default() + quantity("1Gi")).to_string(), "1Gi");
    assert_eq!((quantity("1") - quantity("250m")).to_string(), "750m");
    assert_eq!(
        ["1", "2", "500m"].map(quantity).into_iter().sum::<Quantity>(),
        quantity("3500m")
    );
    assert!(quantity("1Ki") > quantity("1k"));
}

proptest! {
    #[test]
    fn printing_is_undone_by_parsing(text in "-?[0-9]{1,12}(\\.[0-9]{1,6})?(n|u|m|k|M|G|Ki|Mi|Gi|e[0-9]|e-[0-9])?") {
        let parsed = quantity(&text);
        let printed = parsed.to_string();
        prop_assert_eq!(quantity(&printed), parsed);
        prop_assert_eq!(quantity(&printed).to_string(), printed);
    }

    #[test]
    fn order_is_the_order_of_milli(a: i32, b: i32) {
        let (x, y) = (Quantity::from_milli(a.into()), Quantity::from_milli(b.into()));
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        prop_assert_eq!((x + y).milli(), i64::from(a) + i64::from(b));
        prop_assert_eq!((x - y) + y, x);
    }

    #[test]
    fn outside_text_never_panics(text in "[-+0-9.eEinumkKMGTP]{0,40}|.*") {
        let _ = text.parse::<Quantity>();
    }
}
