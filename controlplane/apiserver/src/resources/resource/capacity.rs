//! How a device that serves several claims hands out its capacities: in which amounts.

use std::collections::HashSet;

use api::{FieldError, FieldErrors, Quantity};

use crate::resources::validation::At;
use crate::resources::validation::quantity::parse;

const MAX_OPTIONS: usize = 10;

/// The `requestPolicy` of a capacity; only a device that serves several claims may have one.
pub(super) fn policy(capacity: &At<'_>, shared: bool, errors: &mut FieldErrors) {
    let policy = capacity.child("requestPolicy");
    if !policy.is_set() {
        return;
    }
    if !shared {
        return errors.push(policy.forbidden("allowMultipleAllocations must be true"));
    }
    let (values, range, default) = (
        policy.child("validValues"),
        policy.child("validRange"),
        policy.child("default"),
    );
    let whole = parse(&capacity.child("value")).unwrap_or_else(|| Quantity::from_units(0));
    match (!values.is_empty(), range.is_set(), parse(&default)) {
        (true, true, _) => errors.push(policy.forbidden(
            "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time",
        )),
        (true, false, None) => errors.push(default.required("required when validValues is defined")),
        (true, false, Some(default)) => options(&values, &whole, &default, errors),
        (false, true, None) => errors.push(default.required("required when validRange is defined")),
        (false, true, Some(default)) => self::range(&range, &whole, &default, errors),
        (false, false, _) => {}
    }
}

/// The amounts there are, in rising order; the default is one of them.
fn options(at: &At<'_>, whole: &Quantity, default: &Quantity, errors: &mut FieldErrors) {
    let amounts: Vec<(At<'_>, Quantity)> = at
        .items()
        .into_iter()
        .filter_map(|at| parse(&at).map(|q| (at, q)))
        .collect();
    for pair in amounts.windows(2) {
        if let [(_, before), (at, after)] = pair
            && before > after
        {
            errors.push(at.invalid_as(after.to_string(), "values must be sorted in ascending order"));
        }
    }
    if at.len() > MAX_OPTIONS {
        errors.push(FieldError::too_many(at.path(), at.len(), MAX_OPTIONS));
    } else {
        for (at, amount) in amounts.iter().filter(|(_, amount)| amount > whole) {
            errors.push(at.invalid_as(
                amount.to_string(),
                format!("option is larger than capacity value: {whole}"),
            ));
        }
        let mut known = HashSet::new();
        for (at, amount) in amounts.iter().filter(|(_, amount)| !known.insert(amount.value())) {
            errors.push(at.duplicate_as(amount.value().to_string()));
        }
    }
    if !amounts.iter().any(|(_, amount)| amount == default) {
        errors.push(at.invalid_as(
            default.to_string(),
            "default value is not valid according to the requestPolicy",
        ));
    }
}

/// From one amount to another, in steps.
fn range(at: &At<'_>, whole: &Quantity, default: &Quantity, errors: &mut FieldErrors) {
    let (low, high, step) = (at.child("min"), at.child("max"), at.child("step"));
    let Some(min) = parse(&low) else {
        return errors.push(low.required("required when validRange is defined"));
    };
    let mut say = |at: &At<'_>, wrong: bool, shown: &Quantity, detail: String| {
        if wrong {
            errors.push(at.invalid_as(shown.to_string(), detail));
        }
    };
    say(
        &low,
        min > *whole,
        &min,
        format!("min is larger than capacity value: {whole}"),
    );
    say(
        &low,
        *default < min,
        default,
        format!("default is less than min: {min}"),
    );
    let max = parse(&high);
    if let Some(max) = &max {
        say(&high, min > *max, &min, format!("min is larger than max: {max}"));
        say(
            &high,
            max > whole,
            max,
            format!("max is larger than capacity value: {whole}"),
        );
        say(
            &high,
            default > max,
            default,
            format!("default is more than max: {max}"),
        );
    }
    if let Some(by) = parse(&step) {
        let once = min + by;
        say(
            &step,
            once > *whole,
            &by,
            format!("one step {once} is larger than capacity value: {whole}"),
        );
        for value in std::iter::once(default).chain(&max) {
            let over = value.value().saturating_sub(min.value()).checked_rem(by.value());
            let detail = format!("value is not a multiple of a given step ({by}) from ({min})");
            say(&step, over != Some(0), value, detail);
        }
    }
}
