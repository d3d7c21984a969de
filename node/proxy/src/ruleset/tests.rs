use proptest::prelude::*;

use super::*;
use crate::rules::tests::any_ruleset;

/// A table as the kernel keeps it: refuses what refers to nothing, and the removal of what is referred to. `None` is
/// no table.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kernel(Option<Ruleset>);

impl Kernel {
    /// One transaction: all of it, or an error.
    fn load(&mut self, commands: &[Command<'_>]) -> Result<(), String> {
        let mut table = self.0.clone();
        for command in commands {
            run(&mut table, command).ok_or_else(|| format!("{command:?}"))?;
        }
        self.0 = table;
        Ok(())
    }

    /// As if it had been filled by packets, and by an earlier process.
    fn disturb(&mut self) {
        let table = self.0.as_mut().unwrap();
        for set in table.sets.values_mut().filter(|set| set.kind == SetKind::Dynamic) {
            set.elements.insert("10.0.0.1".into(), None);
        }
        let jump = "goto stray/b".to_owned();
        let elements = [("1".to_owned(), Some(jump.clone()))].into();
        table.sets.insert(
            "stray".into(),
            Set {
                kind: SetKind::Map,
                definition: "x".into(),
                elements,
            },
        );
        table.chains.insert(
            "stray/a".into(),
            Chain {
                hook: None,
                rules: vec!["vmap @stray".into(), jump],
            },
        );
        table.chains.insert(
            "stray/b".into(),
            Chain {
                hook: None,
                rules: vec!["goto stray/a".into()],
            },
        );
        table
            .chains
            .get_mut("to-services")
            .unwrap()
            .rules
            .push("jump stray/a".into());
    }

    /// Without what packets have put into it.
    fn contents(&self) -> Ruleset {
        let mut table = self.0.clone().unwrap();
        for set in table.sets.values_mut().filter(|set| set.kind == SetKind::Dynamic) {
            set.elements.clear();
        }
        table
    }

    fn noted_clients(&self) -> BTreeSet<String> {
        let sets = self.0.iter().flat_map(|table| &table.sets);
        sets.filter(|(_, set)| set.kind == SetKind::Dynamic && !set.elements.is_empty())
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn names(&self) -> Names {
        let table = self.0.clone().unwrap_or_default();
        Names {
            sets: table.sets.into_keys().collect(),
            chains: table.chains.into_keys().collect(),
        }
    }
}

/// The chains and sets that a rule or a verdict names.
fn references(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split([' ', ',']).collect();
    let named = words
        .windows(2)
        .filter(|pair| ["goto", "jump"].contains(&pair[0]))
        .map(|pair| pair[1].to_owned());
    named
        .chain(
            words
                .iter()
                .filter_map(|word| word.strip_prefix('@'))
                .map(str::to_owned),
        )
        .collect()
}

fn is_referred_to(table: &Ruleset, name: &str) -> bool {
    let rules = table.chains.values().flat_map(|chain| &chain.rules);
    let verdicts = table.sets.values().flat_map(|set| set.elements.values().flatten());
    rules
        .chain(verdicts)
        .any(|text| references(text).iter().any(|referred| referred == name))
}

fn refers_to_something(table: &Ruleset, text: &str) -> bool {
    references(text)
        .iter()
        .all(|name| table.chains.contains_key(name) || table.sets.contains_key(name))
}

/// `None` where the kernel refuses.
fn run(table: &mut Option<Ruleset>, command: &Command<'_>) -> Option<()> {
    match command {
        Command::AddTable => {
            table.get_or_insert_default();
            return Some(());
        }
        Command::DeleteTable => return table.take().map(drop),
        _ => {}
    }
    let table = table.as_mut()?;
    match *command {
        Command::AddTable | Command::DeleteTable => return None,
        Command::AddSet(name, set) => {
            let empty = Set {
                elements: BTreeMap::new(),
                ..set.clone()
            };
            let found = table.sets.entry(name.into()).or_insert(empty);
            return found.is_defined_as(set).then_some(());
        }
        Command::FlushSet(name, kind) => {
            let set = table.sets.get_mut(name).filter(|set| set.kind == kind)?;
            set.elements.clear();
        }
        Command::DeleteSet(name) => {
            table.sets.contains_key(name).then_some(())?;
            (!is_referred_to(table, name)).then_some(())?;
            table.sets.remove(name);
        }
        Command::AddChain(name, chain) => {
            let empty = Chain {
                hook: chain.hook.clone(),
                rules: Vec::new(),
            };
            let found = table.chains.entry(name.into()).or_insert(empty);
            return (found.hook == chain.hook).then_some(());
        }
        Command::FlushChain(name) => table.chains.get_mut(name)?.rules.clear(),
        Command::DeleteChain(name) => {
            table.chains.get(name).filter(|chain| chain.rules.is_empty())?;
            (!is_referred_to(table, name)).then_some(())?;
            table.chains.remove(name);
        }
        Command::AddRule(name, rule) => {
            refers_to_something(table, rule).then_some(())?;
            table.chains.get_mut(name)?.rules.push(rule.into());
        }
        Command::AddElement(name, key, value) => {
            refers_to_something(table, value.unwrap_or_default()).then_some(())?;
            let elements = &mut table.sets.get_mut(name)?.elements;
            let value = value.map(str::to_owned);
            return (*elements.entry(key.into()).or_insert(value.clone()) == value).then_some(());
        }
        Command::DeleteElement(name, key) => {
            table.sets.get_mut(name)?.elements.remove(key)?;
        }
    }
    Some(())
}

/// What is applied when one ruleset is known to be there and another is wanted.
fn step<'a>(old: &'a Ruleset, new: &'a Ruleset) -> Vec<Command<'a>> {
    difference(old, new).unwrap_or_else(|| replace(new))
}

proptest! {
    #[test]
    fn a_difference_leads_where_a_replacement_does(rulesets in proptest::collection::vec(any_ruleset(), 2..5)) {
        let mut kernel = Kernel::default();
        kernel.load(&replace(&rulesets[0])).unwrap();
        for pair in rulesets.windows(2) {
            let before = kernel.noted_clients();
            kernel.load(&step(&pair[0], &pair[1])).unwrap();
            prop_assert_eq!(&kernel.contents(), &pair[1]);
            if difference(&pair[0], &pair[1]).is_some() {
                let kept: BTreeSet<_> = before.into_iter().filter(|name| pair[1].sets.contains_key(name)).collect();
                prop_assert_eq!(kernel.noted_clients(), kept, "what clients an endpoint has is not forgotten");
            }
            for set in kernel.0.as_mut().unwrap().sets.values_mut().filter(|set| set.kind == SetKind::Dynamic) {
                set.elements.insert("10.0.0.1".into(), None);
            }
        }
    }

    #[test]
    fn nothing_to_change_is_nothing_to_do(ruleset in any_ruleset()) {
        prop_assert_eq!(difference(&ruleset, &ruleset), Some(Vec::new()));
    }

    #[test]
    fn adopting_leads_there_from_whatever_was_left(old in any_ruleset(), new in any_ruleset()) {
        let mut kernel = Kernel::default();
        kernel.load(&replace(&old)).unwrap();
        kernel.disturb();
        let names = kernel.names();
        let before = kernel.noted_clients();
        kernel.load(&adopt(&names, &new)).unwrap();
        prop_assert_eq!(&kernel.contents(), &new);
        let kept: BTreeSet<_> = before.into_iter().filter(|name| new.sets.contains_key(name)).collect();
        prop_assert_eq!(kernel.noted_clients(), kept);
    }

    #[test]
    fn adopting_nothing_makes_everything(new in any_ruleset()) {
        let mut kernel = Kernel::default();
        kernel.load(&adopt(&Names::default(), &new)).unwrap();
        prop_assert_eq!(kernel.contents(), new);
    }
}

#[test]
fn one_endpoint_more_changes_one_chain() {
    let chain = |rule: &str| Chain {
        hook: None,
        rules: vec![rule.into()],
    };
    let others = (0..1000).map(|n| (format!("svc/{n}"), chain("dnat to 10.0.0.1:80")));
    let old = Ruleset {
        chains: others.collect(),
        ..Ruleset::default()
    };
    let mut new = old.clone();
    new.chains.insert("svc/7".into(), chain("dnat to 10.0.0.2:80"));
    let table = TableName("ip t".into());
    assert_eq!(
        Script(&table, &difference(&old, &new).unwrap()).to_string(),
        "flush chain ip t svc/7\nadd rule ip t svc/7 dnat to 10.0.0.2:80\n"
    );
}

#[test]
fn a_new_definition_cannot_be_a_difference() {
    let with = |definition: &str| {
        let set = Set {
            kind: SetKind::Set,
            definition: definition.into(),
            elements: BTreeMap::new(),
        };
        Ruleset {
            sets: [("a".to_owned(), set)].into(),
            ..Ruleset::default()
        }
    };
    let hooked = |hook: &str| {
        let chain = Chain {
            hook: Some(hook.into()),
            rules: Vec::new(),
        };
        Ruleset {
            chains: [("a".to_owned(), chain)].into(),
            ..Ruleset::default()
        }
    };
    assert_eq!(difference(&with("type ipv4_addr;"), &with("type ipv6_addr;")), None);
    assert_eq!(difference(&hooked("x"), &hooked("y")), None);
}
