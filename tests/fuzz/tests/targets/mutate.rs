//! Makes inputs that are nearly right out of right ones: bytes change, pieces move between inputs, words come in, and
//! trees of JSON are changed as trees, so that what is behind the parser is reached too.

use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};

/// Longest input.
const LONGEST: usize = 1 << 16;
/// How many mutations are kept as inputs for further ones.
const KEPT: usize = 256;

/// An endless source of inputs.
pub struct Mutator {
    random: StdRng,
    inputs: Vec<Vec<u8>>,
    given: usize,
    words: &'static [&'static str],
}

impl Mutator {
    pub fn new(random: StdRng, inputs: Vec<Vec<u8>>, words: &'static [&'static str]) -> Self {
        Self {
            random,
            given: inputs.len(),
            inputs,
            words,
        }
    }

    /// The next input.
    pub fn next(&mut self) -> Vec<u8> {
        let mut input = self.inputs[self.random.random_range(0..self.inputs.len())].clone();
        for _ in 0..self.random.random_range(1..5) {
            input = match serde_json::from_slice::<Value>(&input) {
                Ok(tree) if self.random.random_bool(0.6) => self.change_tree(tree).to_string().into_bytes(),
                _ => self.change_bytes(input),
            };
        }
        input.truncate(LONGEST);
        self.keep(&input);
        input
    }

    /// Some mutations become inputs themselves, so that changes add up; they make room for each other.
    fn keep(&mut self, input: &[u8]) {
        if !self.random.random_bool(0.05) {
            return;
        }
        if self.inputs.len() < self.given + KEPT {
            self.inputs.push(input.to_vec());
        } else {
            let place = self.random.random_range(self.given..self.inputs.len());
            self.inputs[place] = input.to_vec();
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end.max(1))
    }

    fn change_bytes(&mut self, mut input: Vec<u8>) -> Vec<u8> {
        let at = self.below(input.len() + 1);
        let until = (at + self.below(16)).min(input.len());
        match self.below(9) {
            0 => drop(input.drain(at..until)),
            1 => input.insert(at, self.random.random()),
            2 => drop(input.splice(at..at, std::iter::repeat_n(b'a', 200))),
            3 => {
                let piece = input[at..until].to_vec();
                let times = self.below(20);
                drop(input.splice(at..at, piece.repeat(times)));
            }
            4 => {
                let word = self.word();
                drop(input.splice(at..until, word));
            }
            5 => {
                let word = self.word();
                drop(input.splice(at..at, word));
            }
            6 => {
                let other = self.inputs[self.random.random_range(0..self.inputs.len())].clone();
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.random.random_range(0..8);
                }
            }
        }
        input
    }

    fn word(&mut self) -> Vec<u8> {
        let word = self.words[self.random.random_range(0..self.words.len())];
        word.as_bytes().to_vec()
    }

    /// Changes one place of a tree.
    fn change_tree(&mut self, mut tree: Value) -> Value {
        let mut paths = Vec::new();
        collect(&tree, String::new(), &mut paths);
        let path = paths[self.random.random_range(0..paths.len())].clone();
        let other = paths[self.random.random_range(0..paths.len())].clone();
        let other = tree.pointer(&other).cloned().unwrap_or_default();
        let scalar = self.scalar();
        let word = String::from_utf8_lossy(&self.word()).into_owned();
        let choice = self.below(7);
        let Some(place) = tree.pointer_mut(&path) else {
            return tree;
        };
        match (choice, place) {
            (0, place) => *place = other,
            (1, place) => *place = scalar,
            (2, Value::Object(map)) => drop(map.insert(word, other)),
            (3, Value::Object(map)) => {
                if let Some(key) = map.keys().next().cloned() {
                    map.remove(&key);
                }
            }
            (2 | 3, Value::Array(list)) => list.push(other),
            (4, Value::Array(list)) => drop(list.pop()),
            (5, place) => *place = json!([place.take()]),
            (6, place) => *place = json!({word: place.take()}),
            (_, place) => *place = Value::String(word),
        }
        tree
    }

    fn scalar(&mut self) -> Value {
        let all = [
            Value::Null,
            json!(true),
            json!(0),
            json!(-1),
            json!(i64::MAX),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(1e300),
            json!(0.5),
            json!(""),
            json!([]),
            json!({}),
            json!("2026-01-01T00:00:00Z"),
            json!("a".repeat(300)),
            json!("\u{0}\u{7f}\u{1f600}"),
        ];
        all[self.random.random_range(0..all.len())].clone()
    }
}

/// The JSON pointers of every place in a tree.
fn collect(tree: &Value, path: String, paths: &mut Vec<String>) {
    match tree {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                collect(value, format!("{path}/{key}"), paths);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                collect(value, format!("{path}/{index}"), paths);
            }
        }
        _ => {}
    }
    paths.push(path);
}
