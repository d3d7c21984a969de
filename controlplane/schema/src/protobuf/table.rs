//! The facts about messages: their fields' numbers, JSON names and types, and when Go writes a field that is empty.
//!
//! They stand in `facts/protobuf.txt`, one message a line, and are read on first use: a server that no client asks for
//! protobuf holds nothing but that text.

use std::collections::HashMap;
use std::sync::LazyLock;

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(include_str!("../../facts/protobuf.txt")));

/// The group and version that `@` stands for, and where the kinds of every group (Status, DeleteOptions) are.
const META: &str = "meta.k8s.io/v1";
/// The group and version that `~` stands for.
const CORE: &str = "v1";

/// All messages.
pub(super) struct Table {
    messages: Vec<Message>,
    fields: Vec<Field>,
    /// Which fields have which JSON name, message by message: hash tables of `(field, slot)`.
    names: Vec<(u16, u16)>,
    /// Group and version, name, and the message of that name; in order.
    known: Vec<(&'static str, &'static str, u16)>,
}

/// A message: where its fields and names are.
#[derive(Clone, Copy)]
pub(super) struct Message {
    fields: (u16, u16),
    /// Where its names begin, and one less than how many places they have, a power of two.
    names: (u32, u16),
    /// How many fields it has with those of the messages that JSON inlines.
    pub(super) slots: u16,
}

/// A field of a message.
pub(super) struct Field {
    /// As in JSON; empty for a field whose content JSON inlines.
    pub(super) name: &'static str,
    pub(super) number: u16,
    pub(super) shape: Shape,
    pub(super) type_: Type,
    /// Go has a pointer: absent is not zero.
    pub(super) pointer: bool,
    pub(super) zero: Zero,
    /// Of an inlined field: the first slot of its message, counted from the first slot of this message.
    pub(super) slots: u16,
}

/// What becomes of an empty value in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zero {
    /// A scalar is left out; a message is written, as Go does.
    Usual,
    Written,
    Omitted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    /// By string.
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// JSON that travels as text in field 1 of a message: RawExtension, FieldsV1, the JSON of apiextensions.
    Raw,
    /// A list of strings that is a message of its own.
    Texts,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrTexts,
    Message(u16),
}

/// The table, made on first use.
pub(super) fn table() -> &'static Table {
    &TABLE
}

const FREE: (u16, u16) = (u16::MAX, 0);

impl Table {
    pub(super) fn message(&self, at: u16) -> Message {
        *self
            .messages
            .get(usize::from(at))
            .expect("messages are named by their places in the table")
    }

    /// The fields of a message, in the order of their numbers.
    pub(super) fn fields(&self, message: Message) -> &[Field] {
        let (from, to) = message.fields;
        self.fields.get(usize::from(from)..usize::from(to)).unwrap_or_default()
    }

    /// The field of a number.
    pub(super) fn field(&self, message: Message, number: u32) -> Option<&Field> {
        self.fields(message)
            .iter()
            .find(|field| u32::from(field.number) == number)
    }

    /// The slot of a field by its JSON name, that of an inlined message among them.
    pub(super) fn slot(&self, message: Message, name: &[u8]) -> Option<usize> {
        let (from, mask) = message.names;
        let mut place = hash(name) & mask;
        loop {
            let (field, slot) = *self.names.get(from as usize + usize::from(place))?;
            let field = self.fields.get(usize::from(field))?;
            if field.name.as_bytes() == name {
                return Some(slot.into());
            }
            place = (place + 1) & mask;
        }
    }

    /// The message of a name in a group and version.
    pub(super) fn find(&self, api_version: &str, name: &str) -> Option<u16> {
        let at = self
            .known
            .binary_search_by(|(version, known, _)| (*version, *known).cmp(&(api_version, name)));
        self.known.get(at.ok()?).map(|(_, _, message)| *message)
    }

    fn parse(text: &'static str) -> Self {
        let lines = || messages(text);
        let mut known: Vec<(&str, &str, u16)> = Vec::new();
        for (nth, (version, line)) in lines().enumerate() {
            let name = line.split(' ').next().unwrap_or_default();
            known.push((version, name, u16::try_from(nth).expect("there are few messages")));
        }
        let places: HashMap<(&str, &str), u16> = known.iter().map(|(v, n, at)| ((*v, *n), *at)).collect();
        let mut table = Table {
            messages: Vec::with_capacity(known.len()),
            fields: Vec::new(),
            names: Vec::new(),
            known,
        };
        for (version, line) in lines() {
            let from = table.end();
            let resolve = |name: &str| resolve(&places, version, name);
            table
                .fields
                .extend(line.split(' ').skip(1).filter_map(|word| field(word, resolve)));
            table.messages.push(Message {
                fields: (from, table.end()),
                names: (0, 0),
                slots: 0,
            });
        }
        for at in 0..table.messages.len() {
            table.lay_out(at);
        }
        for at in 0..table.messages.len() {
            table.index(at);
        }
        table.known.sort_unstable();
        table.fields.shrink_to_fit();
        table.names.shrink_to_fit();
        table
    }

    fn end(&self) -> u16 {
        u16::try_from(self.fields.len()).expect("there are few fields")
    }

    /// Gives the inlined fields of a message their slots, behind its own, and says how many there are in all.
    fn lay_out(&mut self, at: usize) -> u16 {
        let Some(&Message {
            fields: (from, to),
            slots,
            ..
        }) = self.messages.get(at)
        else {
            return 0;
        };
        if slots > 0 {
            return slots;
        }
        let mut slots = to - from;
        for nth in from..to {
            let Some(inner) = self.fields.get(usize::from(nth)).and_then(Field::inlined) else {
                continue;
            };
            let more = self.lay_out(inner.into());
            if let Some(field) = self.fields.get_mut(usize::from(nth)) {
                field.slots = slots;
            }
            slots += more;
        }
        if let Some(message) = self.messages.get_mut(at) {
            message.slots = slots;
        }
        slots
    }

    /// Makes the hash table of a message's names.
    fn index(&mut self, at: usize) {
        let Some(message) = self.messages.get(at).copied() else {
            return;
        };
        let mut named = Vec::new();
        self.named(message, 0, &mut named);
        // At most half of the places are taken, so that a search ends.
        let size = (named.len() * 2).next_power_of_two().max(2);
        let mask = u16::try_from(size - 1).expect("a message has few fields");
        let mut places = vec![FREE; size];
        for (field, slot, name) in named {
            let mut place = usize::from(hash(name.as_bytes()) & mask);
            while places.get(place).is_some_and(|taken| *taken != FREE) {
                place = (place + 1) & usize::from(mask);
            }
            if let Some(free) = places.get_mut(place) {
                *free = (field, slot);
            }
        }
        let from = u32::try_from(self.names.len()).expect("there are few names");
        self.names.append(&mut places);
        if let Some(message) = self.messages.get_mut(at) {
            message.names = (from, mask);
        }
    }

    fn named(&self, message: Message, slots: u16, out: &mut Vec<(u16, u16, &'static str)>) {
        let (from, to) = message.fields;
        for (nth, field) in (from..to).zip(self.fields(message)) {
            match field.inlined() {
                Some(inner) => self.named(self.message(inner), slots + field.slots, out),
                None => out.push((nth, slots + (nth - from), field.name)),
            }
        }
    }
}

impl Field {
    /// The message whose fields JSON writes in place of this one.
    pub(super) fn inlined(&self) -> Option<u16> {
        match self.type_ {
            Type::Message(inner) if self.name.is_empty() => Some(inner),
            _ => None,
        }
    }
}

/// The kind's own message, or that of `meta.k8s.io/v1` for the kinds that every client knows as `v1`.
pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<u16> {
    let meta = |version: &str| matches!(version, CORE | "meta.k8s.io/v1beta1");
    let own = table().find(api_version, kind);
    own.or_else(|| meta(api_version).then(|| table().find(META, kind)).flatten())
}

/// The message that a body of this kind holds: options travel under the version of whatever they are for.
pub(super) fn of_body(api_version: &str, kind: &str) -> Option<u16> {
    of_kind(api_version, kind).or_else(|| table().find(META, kind).filter(|_| kind.ends_with("Options")))
}

/// Few names of a message share length, ends and middle.
fn hash(name: &[u8]) -> u16 {
    let at = |place: usize| u32::from(name.get(place).copied().unwrap_or_default());
    let length = name.len();
    let mixed = at(0) | at(length / 2) << 8 | at(length.wrapping_sub(1)) << 16 | (length as u32) << 24;
    (mixed.wrapping_mul(0x9E37_79B1) >> 16) as u16
}

/// The lines of messages, each with its group and version.
fn messages(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut version = "";
    text.lines().filter_map(move |line| match line.strip_prefix('=') {
        Some(next) => {
            version = next;
            None
        }
        None => (!line.starts_with('#')).then_some((version, line)),
    })
}

fn resolve(places: &HashMap<(&str, &str), u16>, version: &str, name: &str) -> Option<u16> {
    let full = match (name.strip_prefix('@'), name.strip_prefix('~')) {
        (Some(name), _) => (META, name),
        (_, Some(name)) => (CORE, name),
        (None, None) => name.rsplit_once('.').unwrap_or((version, name)),
    };
    places.get(&full).copied()
}

/// `7name:*type?`
fn field(word: &'static str, resolve: impl Fn(&str) -> Option<u16>) -> Option<Field> {
    let (head, rest) = word.split_once(':')?;
    let digits = head.find(|c: char| !c.is_ascii_digit()).unwrap_or(head.len());
    let (number, name) = head.split_at_checked(digits)?;
    let (shape, rest) = match (rest.strip_prefix('*'), rest.strip_prefix('%')) {
        (Some(item), _) => (Shape::List, item),
        (_, Some(value)) => (Shape::Map, value),
        (None, None) => (Shape::One, rest),
    };
    let type_ = rest.trim_end_matches(['?', '!', '-']);
    let flagged = |flag: char| rest.ends_with(flag);
    Some(Field {
        name,
        number: number.parse().ok()?,
        shape,
        type_: type_of(type_, resolve)?,
        pointer: flagged('?'),
        zero: match (flagged('!'), flagged('-')) {
            (true, _) => Zero::Written,
            (_, true) => Zero::Omitted,
            (false, false) => Zero::Usual,
        },
        slots: 0,
    })
}

fn type_of(name: &str, resolve: impl Fn(&str) -> Option<u16>) -> Option<Type> {
    Some(match name {
        "s" => Type::Text,
        "y" => Type::Bytes,
        "b" => Type::Bool,
        "i" => Type::Int32,
        "n" => Type::Int64,
        "d" => Type::Double,
        "t" => Type::Time,
        "m" => Type::MicroTime,
        "q" => Type::Quantity,
        "o" => Type::IntOrString,
        "r" => Type::Raw,
        "l" => Type::Texts,
        "A" => Type::SchemaOrArray,
        "B" => Type::SchemaOrBool,
        "S" => Type::SchemaOrTexts,
        message => Type::Message(resolve(message)?),
    })
}

/// The schema of a CustomResourceDefinition, which its unions hold.
pub(super) fn json_schema_props() -> Option<u16> {
    table().find("apiextensions.k8s.io/v1", "JSONSchemaProps")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_table_is_understood() {
        let text = include_str!("../../facts/protobuf.txt");
        let table = table();
        for (version, line) in messages(text) {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            let message = table.message(table.find(version, name).unwrap());
            assert_eq!(words.count(), table.fields(message).len(), "{version} {name}");
            let numbers: Vec<u16> = table.fields(message).iter().map(|field| field.number).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "{version} {name}: {numbers:?}");
        }
        assert!(table.messages.len() > 600 && table.fields.len() > 2000);
    }

    #[test]
    fn every_name_leads_to_a_slot_of_its_own() {
        let table = table();
        for message in &table.messages {
            let mut named = Vec::new();
            table.named(*message, 0, &mut named);
            let mut slots: Vec<usize> = named
                .iter()
                .map(|(_, slot, name)| {
                    let found = table.slot(*message, name.as_bytes()).unwrap();
                    assert_eq!(found, usize::from(*slot), "{name}");
                    found
                })
                .collect();
            slots.sort_unstable();
            slots.dedup();
            assert_eq!(slots.len(), named.len());
            assert!(slots.iter().all(|slot| *slot < message.slots.into()));
            assert_eq!(table.slot(*message, b"noSuchField"), None);
        }
    }

    #[test]
    fn kinds_are_found_by_their_whole_group() {
        assert!(of_kind("apps/v1", "Deployment").is_some());
        assert!(of_kind("v1", "Status").is_some());
        assert!(of_kind("meta.k8s.io/v1beta1", "PartialObjectMetadata").is_some());
        assert_eq!(of_kind("apps.example.com/v1", "Deployment"), None);
        assert_eq!(of_kind("apps/v1", "Status"), None);
        assert!(of_body("apps/v1", "DeleteOptions").is_some());
        assert_eq!(of_body("apps/v1", "Status"), None);
    }
}
