//! Images as text for people. Pure.

use wasm::Inspection;

/// Lines of a table, as `crictl images` has it.
pub(super) fn images(images: &[cri::Image]) -> Vec<String> {
    let mut rows = vec![["IMAGE", "TAG", "IMAGE ID", "SIZE"].map(str::to_owned)];
    for image in images {
        let row = |name: &str, tag: &str| {
            let id = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
            [
                name.to_owned(),
                tag.to_owned(),
                id.chars().take(13).collect(),
                size(image.size),
            ]
        };
        match (image.tags.is_empty(), image.digests.first()) {
            (false, _) => {
                let named = image.tags.iter().filter_map(|tag| tag.rsplit_once(':'));
                rows.extend(named.map(|(name, tag)| row(name, tag)));
            }
            (true, Some(digest)) => rows.push(row(digest.split('@').next().unwrap_or(digest), "<none>")),
            (true, None) => rows.push(row("<none>", "<none>")),
        }
    }
    aligned(&rows)
}

/// Lines that describe a binary.
pub(super) fn description(image: Option<&cri::Image>, binary: &Inspection) -> Vec<String> {
    let list = |values: &[String]| match values {
        [] => vec!["none".to_owned()],
        values => values.to_vec(),
    };
    let producers = binary.producers.iter().flat_map(|(field, producers)| {
        let named = producers.iter();
        named.map(move |producer| {
            format!("{field}: {} {}", producer.name, producer.version)
                .trim_end()
                .to_owned()
        })
    });
    let names = image.map(|image| image.tags.iter().chain(&image.digests).cloned().collect::<Vec<_>>());
    let mut fields = vec![
        ("Names", names.unwrap_or_default()),
        ("Digest", vec![binary.digest.clone()]),
        ("Size", vec![size(binary.size)]),
        ("Kind", vec![binary.kind.to_owned()]),
        ("Worlds", list(&binary.worlds)),
        ("Exports", list(&binary.exports)),
        ("Imports", list(&binary.imports)),
        ("Producers", list(&producers.collect::<Vec<_>>())),
        ("Lacking here", list(&binary.missing)),
    ];
    let runs = binary.refusal.clone().unwrap_or_else(|| "yes".to_owned());
    fields.push(("Runs here", vec![runs]));
    let lines = fields.into_iter().flat_map(|(name, values)| {
        values.into_iter().enumerate().map(move |(number, value)| {
            let label = if number == 0 { format!("{name}:") } else { String::new() };
            format!("{label:<14}{value}")
        })
    });
    lines.collect()
}

fn aligned(rows: &[[String; 4]]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |row: &[String; 4]| {
        let cells = row.iter().enumerate();
        let padded = cells.map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        padded.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// `512 B`, `7.2 KiB`, `11.9 MiB`
fn size(bytes: u64) -> String {
    let mut unit = "B";
    let mut tenths = bytes.saturating_mul(10);
    for larger in ["KiB", "MiB", "GiB"] {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, larger);
    }
    match unit {
        "B" => format!("{bytes} B"),
        unit => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_listed_by_each_of_their_names() {
        let image = |tags: &[&str], digests: &[&str], size| cri::Image {
            id: format!("sha256:{}", "ab".repeat(32)),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
            size,
            ..cri::Image::default()
        };
        let all = [
            image(&["docker.io/library/hello:1", "r:5000/hello:2"], &[], 7_400),
            image(&[], &["r:5000/old@sha256:0"], 12_500_000),
            image(&[], &[], 3),
        ];
        assert_eq!(
            images(&all),
            [
                "IMAGE                     TAG      IMAGE ID        SIZE",
                "docker.io/library/hello   1        ababababababa   7.2 KiB",
                "r:5000/hello              2        ababababababa   7.2 KiB",
                "r:5000/old                <none>   ababababababa   11.9 MiB",
                "<none>                    <none>   ababababababa   3 B",
            ]
        );
    }
}
