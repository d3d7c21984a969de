//! Lists in pieces, for the calls that stream them: none of the pieces empty, none too large for a message.

use futures::{Stream, stream};
use prost::Message;
use tonic::Status;

/// Bytes from which on a piece is full.
const FULL: usize = 1 << 20;

/// Splits a list; an item larger than a piece is one of its own.
pub(super) fn split<T: Message>(items: Vec<T>) -> Vec<Vec<T>> {
    let mut pages = Vec::new();
    let (mut page, mut size) = (Vec::new(), 0);
    for item in items {
        size += item.encoded_len();
        page.push(item);
        if size >= FULL {
            pages.push(std::mem::take(&mut page));
            size = 0;
        }
    }
    pages.extend(Some(page).filter(|page| !page.is_empty()));
    pages
}

/// The pieces of a list, each as `response` wraps it.
pub(super) fn stream<T: Message, R>(
    items: Vec<T>,
    response: impl Fn(Vec<T>) -> R,
) -> impl Stream<Item = Result<R, Status>> {
    let pages: Vec<_> = split(items).into_iter().map(|page| Ok(response(page))).collect();
    stream::iter(pages)
}

#[cfg(test)]
mod tests {
    use proto::v1::KeyValue;

    use super::*;

    #[test]
    fn every_item_is_in_one_piece_and_no_piece_is_empty() {
        let item = |bytes: usize| KeyValue {
            key: bytes.to_string(),
            value: vec![0; bytes].into(),
        };
        assert!(split::<KeyValue>(Vec::new()).is_empty());
        let sizes = [10, FULL / 2, FULL / 2, FULL * 3, 1];
        let pages = split(sizes.map(item).into());
        let told: Vec<Vec<usize>> = pages
            .iter()
            .map(|page| page.iter().map(|item| item.value.len()).collect())
            .collect();
        assert_eq!(told, [vec![10, FULL / 2, FULL / 2], vec![FULL * 3], vec![1]]);
    }
}
