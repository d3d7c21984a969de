//! What one nftables table holds, and the commands that lead from one state of it to another. Pure.
//!
//! A list of commands is applied as one transaction, in order: what is referred to is made first and removed last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The contents of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// Sets and maps by name.
    pub(crate) sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub(crate) chains: BTreeMap<String, Chain>,
}

/// A set, or a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) kind: SetKind,
    /// What stands between the braces of its definition.
    pub(crate) definition: String,
    /// Keys with the value of each, which sets have none of.
    pub(crate) elements: BTreeMap<String, Option<String>>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum SetKind {
    Set,
    Map,
    /// A set whose elements come from the packet path, and are left alone.
    Dynamic,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Where packets enter it, if not from another chain: what stands between the braces of its definition.
    pub(crate) hook: Option<String>,
    pub(crate) rules: Vec<String>,
}

/// The names that a table of ours has, from which an earlier process may have left some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) sets: BTreeSet<String>,
    pub(crate) chains: BTreeSet<String>,
}

/// One command of a transaction on a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    AddTable,
    DeleteTable,
    AddSet(&'a str, &'a Set),
    FlushSet(&'a str, SetKind),
    DeleteSet(&'a str),
    AddChain(&'a str, &'a Chain),
    FlushChain(&'a str),
    DeleteChain(&'a str),
    AddRule(&'a str, &'a str),
    AddElement(&'a str, &'a str, Option<&'a str>),
    DeleteElement(&'a str, &'a str),
}

/// Makes the table anew, whatever it was.
pub(crate) fn replace(new: &Ruleset) -> Vec<Command<'_>> {
    let mut commands = vec![Command::AddTable, Command::DeleteTable, Command::AddTable];
    commands.extend(define(new));
    commands.extend(fill(new));
    commands
}

/// Makes the table what it should be, given what it has by name. Sets filled by packets keep their elements.
pub(crate) fn adopt<'a>(found: &'a Names, new: &'a Ruleset) -> Vec<Command<'a>> {
    let mut commands = vec![Command::AddTable];
    commands.extend(define(new));
    let chains: BTreeSet<&str> = found
        .chains
        .iter()
        .chain(new.chains.keys())
        .map(String::as_str)
        .collect();
    commands.extend(chains.iter().map(|name| Command::FlushChain(name)));
    let filled = new.sets.iter().filter(|(_, set)| set.kind != SetKind::Dynamic);
    commands.extend(filled.map(|(name, set)| Command::FlushSet(name, set.kind)));
    commands.extend(fill(new));
    let gone = |names: &'a BTreeSet<String>, known: &dyn Fn(&str) -> bool| {
        names
            .iter()
            .map(String::as_str)
            .filter(|name| !known(name))
            .collect::<Vec<_>>()
    };
    let gone_sets = gone(&found.sets, &|name| new.sets.contains_key(name));
    let gone_chains = gone(&found.chains, &|name| new.chains.contains_key(name));
    // Maps of verdicts refer to chains, and rules to sets: the rules are flushed already.
    commands.extend(gone_sets.into_iter().map(Command::DeleteSet));
    commands.extend(gone_chains.into_iter().map(Command::DeleteChain));
    commands
}

/// Leads from `old` to `new` by what differs, or `None` where only [`replace`] does: a definition has changed.
pub(crate) fn difference<'a>(old: &'a Ruleset, new: &'a Ruleset) -> Option<Vec<Command<'a>>> {
    let redefined = new
        .sets
        .iter()
        .any(|(name, set)| old.sets.get(name).is_some_and(|old| !old.is_defined_as(set)))
        || new
            .chains
            .iter()
            .any(|(name, chain)| old.chains.get(name).is_some_and(|old| old.hook != chain.hook));
    if redefined {
        return None;
    }
    let mut commands = Vec::new();
    let added_sets = new.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name));
    commands.extend(added_sets.map(|(name, set)| Command::AddSet(name, set)));
    let added_chains = new.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name));
    commands.extend(added_chains.map(|(name, chain)| Command::AddChain(name, chain)));
    for (name, chain) in &new.chains {
        let before = old.chains.get(name).map_or(&[][..], |chain| &chain.rules);
        if before != chain.rules {
            if !before.is_empty() {
                commands.push(Command::FlushChain(name));
            }
            commands.extend(chain.rules.iter().map(|rule| Command::AddRule(name, rule)));
        }
    }
    for (name, set) in &new.sets {
        let before = old.sets.get(name).map(|set| &set.elements);
        let stale = before
            .into_iter()
            .flatten()
            .filter(|(key, value)| set.elements.get(*key) != Some(value));
        commands.extend(stale.map(|(key, _)| Command::DeleteElement(name, key)));
        let is_fresh = |key: &String, value| before.and_then(|before| before.get(key)) != Some(value);
        let fresh = set.elements.iter().filter(|(key, value)| is_fresh(key, value));
        commands.extend(fresh.map(|(key, value)| Command::AddElement(name, key, value.as_deref())));
    }
    let gone_chains: Vec<&str> = old
        .chains
        .keys()
        .filter(|name| !new.chains.contains_key(*name))
        .map(String::as_str)
        .collect();
    let gone_sets = old
        .sets
        .keys()
        .filter(|name| !new.sets.contains_key(*name))
        .map(String::as_str);
    commands.extend(gone_chains.iter().map(|name| Command::FlushChain(name)));
    commands.extend(gone_sets.map(Command::DeleteSet));
    commands.extend(gone_chains.into_iter().map(Command::DeleteChain));
    Some(commands)
}

fn define(new: &Ruleset) -> impl Iterator<Item = Command<'_>> {
    let sets = new.sets.iter().map(|(name, set)| Command::AddSet(name, set));
    sets.chain(new.chains.iter().map(|(name, chain)| Command::AddChain(name, chain)))
}

fn fill(new: &Ruleset) -> impl Iterator<Item = Command<'_>> {
    let all_rules = new.chains.iter().flat_map(|(name, chain)| rules(name, chain));
    all_rules.chain(new.sets.iter().flat_map(|(name, set)| elements(name, set)))
}

fn rules<'a>(name: &'a str, chain: &'a Chain) -> impl Iterator<Item = Command<'a>> {
    chain.rules.iter().map(move |rule| Command::AddRule(name, rule))
}

fn elements<'a>(name: &'a str, set: &'a Set) -> impl Iterator<Item = Command<'a>> {
    set.elements
        .iter()
        .map(move |(key, value)| Command::AddElement(name, key, value.as_deref()))
}

impl Set {
    fn is_defined_as(&self, other: &Set) -> bool {
        self.kind == other.kind && self.definition == other.definition
    }
}

impl SetKind {
    fn word(self) -> &'static str {
        match self {
            SetKind::Set | SetKind::Dynamic => "set",
            SetKind::Map => "map",
        }
    }
}

/// A table's name with its family, `ip wherry-x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableName(pub(crate) String);

/// Commands as text for `nft -f`.
pub(crate) struct Script<'a>(pub(crate) &'a TableName, pub(crate) &'a [Command<'a>]);

impl fmt::Display for Script<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Script(TableName(table), commands) = self;
        for command in *commands {
            match command {
                Command::AddTable => writeln!(f, "add table {table}")?,
                Command::DeleteTable => writeln!(f, "delete table {table}")?,
                Command::AddSet(name, set) => {
                    writeln!(f, "add {} {table} {name} {{ {} }}", set.kind.word(), set.definition)?;
                }
                Command::FlushSet(name, kind) => writeln!(f, "flush {} {table} {name}", kind.word())?,
                Command::DeleteSet(name) => writeln!(f, "delete set {table} {name}")?,
                Command::AddChain(name, Chain { hook: Some(hook), .. }) => {
                    writeln!(f, "add chain {table} {name} {{ {hook} }}")?;
                }
                Command::AddChain(name, Chain { hook: None, .. }) => writeln!(f, "add chain {table} {name}")?,
                Command::FlushChain(name) => writeln!(f, "flush chain {table} {name}")?,
                Command::DeleteChain(name) => writeln!(f, "delete chain {table} {name}")?,
                Command::AddRule(chain, rule) => writeln!(f, "add rule {table} {chain} {rule}")?,
                Command::AddElement(set, key, Some(value)) => {
                    writeln!(f, "add element {table} {set} {{ {key} : {value} }}")?;
                }
                Command::AddElement(set, key, None) => writeln!(f, "add element {table} {set} {{ {key} }}")?,
                Command::DeleteElement(set, key) => writeln!(f, "delete element {table} {set} {{ {key} }}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
