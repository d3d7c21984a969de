//! Label selectors: their meaning, their text, and their reading from a `metav1.LabelSelector`.

use std::fmt;

use serde_json::Value;

use super::parse;
use crate::{
    field::{FieldError, FieldErrors, Path},
    names::{is_label_value, is_qualified_name},
};

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label. `values` is sorted and without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

impl Requirement {
    /// Checks key and values as `labels.NewRequirement` does; the error is the aggregate of all that is wrong.
    pub(super) fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, String> {
        values.sort();
        values.dedup();
        let errors = requirement_errors(key, operator, &values);
        if errors.is_empty() {
            Ok(Self {
                key: key.to_owned(),
                operator,
                values,
            })
        } else {
            Err(crate::field::aggregate(&errors))
        }
    }

    fn matches(&self, label: Option<&str>) -> bool {
        let among = |value: &str| self.values.binary_search_by(|known| known.as_str().cmp(value)).is_ok();
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = || number(self.values.first()?);
        match self.operator {
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::In | Operator::Equals | Operator::DoubleEquals => label.is_some_and(among),
            Operator::NotIn | Operator::NotEquals => !label.is_some_and(among),
            Operator::GreaterThan => label
                .and_then(number)
                .zip(bound())
                .is_some_and(|(value, bound)| value > bound),
            Operator::LessThan => label
                .and_then(number)
                .zip(bound())
                .is_some_and(|(value, bound)| value < bound),
        }
    }
}

fn requirement_errors(key: &str, operator: Operator, values: &[String]) -> FieldErrors {
    let at = Path::root("values");
    let mut errors: FieldErrors = key_error(key, &Path::root("key")).into_iter().collect();
    let count = match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            Some("for 'in', 'notin' operators, values set can't be empty")
        }
        Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
            Some("exact-match compatibility requires one single value")
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            Some("values set must be empty for exists and does not exist")
        }
        Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
            Some("for 'Gt', 'Lt' operators, exactly one value is required")
        }
        _ => None,
    };
    errors.extend(count.map(|detail| FieldError::invalid(&at, values.to_vec(), detail)));
    for (index, value) in values.iter().enumerate() {
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
            let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
            errors.push(FieldError::invalid(&at.index(index), value.as_str(), detail));
        }
        let wrong = is_label_value(value);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(
                &at.index(index).key(key),
                value.as_str(),
                wrong.join("; "),
            ));
        }
    }
    errors
}

pub(super) fn key_error(key: &str, at: &Path) -> Option<FieldError> {
    let wrong = is_qualified_name(key);
    (!wrong.is_empty()).then(|| FieldError::invalid(at, key, wrong.join("; ")))
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// All requirements must hold; `None` inside matches nothing at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSelector(Option<Vec<Requirement>>);

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self(Some(Vec::new()))
    }

    /// Matches no object.
    pub fn nothing() -> Self {
        Self(None)
    }

    /// Reads the text form, the full grammar of `labels.Parse`.
    ///
    /// # Errors
    /// With Kubernetes' words: `unable to parse requirement: …`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = parse::requirements(text)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self(Some(requirements)))
    }

    /// Reads a `metav1.LabelSelector`; null matches nothing, an empty one everything.
    ///
    /// # Errors
    /// All that is wrong, with paths relative to the selector (`matchExpressions[0].values`).
    pub fn from_json(selector: &Value) -> Result<Self, FieldErrors> {
        Self::from_json_at(selector, &Path::default())
    }

    /// As [`LabelSelector::from_json`], with paths that begin at `path`.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn from_json_at(selector: &Value, path: &Path) -> Result<Self, FieldErrors> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let (mut requirements, mut errors) = (Vec::new(), FieldErrors::new());
        read_match_labels(selector, &path.child("matchLabels"), &mut requirements, &mut errors);
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for (index, expression) in expressions.into_iter().flatten().enumerate() {
            let at = path.child("matchExpressions").index(index);
            match read_expression(expression, &at) {
                Ok(requirement) => requirements.push(requirement),
                Err(wrong) => errors.extend(wrong),
            }
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        if errors.is_empty() {
            Ok(Self(Some(requirements)))
        } else {
            Err(errors)
        }
    }

    /// A selector for exactly these labels, as Services and ReplicationControllers have it.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let equals = |(key, value): (&str, &str)| Requirement {
            key: key.to_owned(),
            operator: Operator::Equals,
            values: vec![value.to_owned()],
        };
        let mut requirements: Vec<_> = labels.into_iter().map(equals).collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self(Some(requirements))
    }

    /// Whether labels, given as a look-up, are selected.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        match &self.0 {
            Some(requirements) => requirements
                .iter()
                .all(|requirement| requirement.matches(label(&requirement.key))),
            None => false,
        }
    }

    /// Whether every object is selected.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_some_and(Vec::is_empty)
    }

    /// The conditions; none for `everything` and for `nothing`.
    pub fn requirements(&self) -> &[Requirement] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.requirements().iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

fn read_match_labels(selector: &Value, at: &Path, requirements: &mut Vec<Requirement>, errors: &mut FieldErrors) {
    let Some(labels) = selector.get("matchLabels").and_then(Value::as_object) else {
        return;
    };
    for (key, value) in labels {
        let value = value.as_str().unwrap_or_default();
        errors.extend(
            is_qualified_name(key)
                .into_iter()
                .map(|wrong| FieldError::invalid(at, key.as_str(), wrong)),
        );
        errors.extend(
            is_label_value(value)
                .into_iter()
                .map(|wrong| FieldError::invalid(at, value, wrong)),
        );
        requirements.push(Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.to_owned()],
        });
    }
}

fn read_expression(expression: &Value, at: &Path) -> Result<Requirement, FieldErrors> {
    let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or_default();
    let listed = expression.get("values").and_then(Value::as_array).into_iter().flatten();
    let mut values: Vec<String> = listed.filter_map(Value::as_str).map(str::to_owned).collect();
    let mut errors = FieldErrors::new();
    let operator = match text("operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => {
            errors.push(FieldError::invalid(
                &at.child("operator"),
                other,
                "not a valid selector operator",
            ));
            Operator::Exists
        }
    };
    let key = text("key");
    let values_at = at.child("values");
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&values_at, detail));
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() && errors.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&values_at, detail));
        }
        _ => {}
    }
    let key_at = at.child("key");
    errors.extend(
        is_qualified_name(key)
            .into_iter()
            .map(|wrong| FieldError::invalid(&key_at, key, wrong)),
    );
    for (index, value) in values.iter().enumerate() {
        let wrong = is_label_value(value).into_iter();
        errors.extend(wrong.map(|wrong| FieldError::invalid(&values_at.index(index), value.as_str(), wrong)));
    }
    values.sort();
    values.dedup();
    if errors.is_empty() {
        Ok(Requirement {
            key: key.to_owned(),
            operator,
            values,
        })
    } else {
        Err(errors)
    }
}
