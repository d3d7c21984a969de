//! Writes: what is sent for each, and in which order Kubernetes judges it.

use http::Method;
use serde_json::{Value, json};

use crate::{
    kinds::Kind,
    object::{self, Fields, Object, pointer},
    operation::{
        Age, Client, DeleteOptions, Edit, Naming, Oddity, Part, PatchForm, Place, Propagation, Query, Target, Uid,
        Version,
    },
    predict::{self, CONFLICT, INVALID, NOT_FOUND, Outcome, REPLICAS, Refusal},
    session::{Answer, Asked, JSON, Session, Shows, Verdict, parameters, subresource},
    world::Id,
};

const FORBIDDEN: Refusal = Refusal(403, "Forbidden");

fn known(client: Client) -> Result<(), Refusal> {
    match client {
        Client::Stranger => Err(FORBIDDEN),
        Client::One | Client::Two => Ok(()),
    }
}

fn has_part(kind: Kind, part: Part) -> Result<(), Refusal> {
    match part == Part::Whole || kind.has_status() {
        true => Ok(()),
        false => Err(NOT_FOUND),
    }
}

impl Session {
    pub fn create(
        &self,
        client: Client,
        at: Target,
        naming: Naming,
        fields: &Fields,
        bound: bool,
        odd: Oddity,
        dry: bool,
    ) -> Asked {
        let id = self.world.id(at);
        let fields = predict::sound(at.kind, fields);
        let odd = if at.kind == Kind::Namespace && odd == Oddity::OtherNamespace {
            Oddity::None
        } else {
            odd
        };
        let mut body = self.body(&id, &fields);
        let meta = &mut body["metadata"];
        match naming {
            Naming::Given => {}
            Naming::Generated => {
                *meta = json!({"generateName": format!("{}-g-", self.world.run), "labels": meta["labels"].take()})
            }
            Naming::Missing => meta["name"] = json!(""),
            Naming::Wrong => meta["name"] = json!("not%a%name"),
        }
        if naming == Naming::Generated {
            object::write(at.kind, &mut body, &fields);
        }
        match odd {
            Oddity::None => {}
            Oddity::UnknownField => body["bogus"] = json!(1),
            Oddity::OtherNamespace => body["metadata"]["namespace"] = json!("other"),
            Oddity::WrongLabel => body["metadata"]["labels"]["-"] = json!("x"),
            Oddity::Revision => body["metadata"]["resourceVersion"] = json!("1"),
        }
        if bound {
            body["spec"]["nodeName"] = json!("node");
        }
        let path = Self::collection(at.kind, Some(&id.namespace));
        let path = format!("{path}?{}&fieldValidation=Strict", parameters(client, dry));
        let judge = move |session: &mut Self, answer: &Answer| {
            let mut id = id.clone();
            if naming == Naming::Generated {
                id.name = answer.body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let end = id.name.strip_prefix(&format!("{}-g-", session.world.run));
                if answer.code == 201 && end.is_none_or(|end| end.len() != 5) {
                    return Err(format!("a name was not generated: {answer:#?}"));
                }
            }
            let predicted = session.creation(client, &id, &fields, (naming, odd, bound), dry);
            session.compare("create", &id, answer, predicted, (Shows::Object, dry))
        };
        Asked::new(client, Method::POST, path, JSON, body, judge)
    }

    fn creation(
        &self,
        client: Client,
        id: &Id,
        fields: &Fields,
        (naming, odd, bound): (Naming, Oddity, bool),
        dry: bool,
    ) -> Result<Outcome, Refusal> {
        known(client)?;
        if matches!(odd, Oddity::UnknownField | Oddity::OtherNamespace) {
            return Err(Refusal(400, "BadRequest"));
        }
        self.may_come(id)?;
        if matches!(naming, Naming::Missing | Naming::Wrong) || odd == Oddity::WrongLabel {
            return Err(INVALID);
        }
        if odd == Oddity::Revision && !dry {
            return Err(Refusal(500, ""));
        }
        if self.world.now.contains_key(id) {
            return Err(Refusal(409, "AlreadyExists"));
        }
        Ok(predict::created(
            id.kind,
            &Self::owner(client, false, ""),
            fields,
            bound,
        ))
    }

    /// Whether there can be something new.
    fn may_come(&self, id: &Id) -> Result<(), Refusal> {
        match self.world.surroundings(id) {
            (false, _) => Err(NOT_FOUND),
            (true, false) => Err(FORBIDDEN),
            (true, true) => Ok(()),
        }
    }

    /// Whether what is there can be changed.
    fn may_change(&self, id: &Id) -> Result<(), Refusal> {
        match self.world.surroundings(id) {
            (false, _) => Err(NOT_FOUND),
            (true, _) => Ok(()),
        }
    }

    /// A resourceVersion that a write carries.
    fn carried(&self, id: &Id, version: Version) -> Option<u64> {
        match version {
            Version::None => None,
            Version::Read(back) => Some(self.world.read(id, back)?.0.revision),
        }
    }

    pub fn update(
        &self,
        client: Client,
        at: Target,
        part: Part,
        read: Option<u8>,
        edit: &Edit,
        version: Version,
        dry: bool,
    ) -> Asked {
        let id = self.world.id(at);
        let edit = edit.sound(at.kind);
        // A pod's spec has much that the server decides, which an update must repeat.
        let read = if at.kind == Kind::Pod { read.or(Some(0)) } else { read };
        let base = read.and_then(|back| self.world.read(&id, back)).cloned();
        let fields = match &base {
            Some((object, _)) => edit.onto(&object.fields, false),
            None => predict::sound_part(at.kind, part, &edit.onto(&Fields::new(), false)),
        };
        let fields = predict::sound(at.kind, &fields);
        let mut body = match &base {
            Some((_, read)) => read.clone(),
            None => self.body(&id, &fields),
        };
        object::write(at.kind, &mut body, &fields);
        let revision = match &base {
            Some((object, _)) => (version != Version::None).then_some(object.revision),
            None => self.carried(&id, version),
        };
        match revision {
            Some(revision) => body["metadata"]["resourceVersion"] = json!(revision.to_string()),
            None => drop(
                body["metadata"]
                    .as_object_mut()
                    .map(|meta| meta.remove("resourceVersion")),
            ),
        }
        let path = Self::path(&id, subresource(part), client, dry);
        let base = base.map(|(object, _)| object);
        let judge = move |session: &mut Self, answer: &Answer| {
            let predicted = session.replacement(client, &id, part, base.as_ref(), revision, fields.clone());
            let what = format!("update {part:?}");
            session.compare(&what, &id, answer, predicted, (Shows::Object, dry))
        };
        Asked::new(client, Method::PUT, path, JSON, body, judge)
    }

    fn replacement(
        &self,
        client: Client,
        id: &Id,
        part: Part,
        base: Option<&Object>,
        revision: Option<u64>,
        fields: Fields,
    ) -> Result<Outcome, Refusal> {
        known(client)?;
        has_part(id.kind, part)?;
        let owner = Self::owner(client, false, subresource(part));
        let Some(old) = self.world.now.get(id) else {
            if !id.kind.creates_on_update() {
                return Err(NOT_FOUND);
            }
            if base.is_some() {
                return Err(CONFLICT);
            }
            self.may_come(id)?;
            return Ok(predict::created(id.kind, &owner, &fields, false));
        };
        if base.is_some_and(|base| base.uid != old.uid) {
            return Err(CONFLICT);
        }
        self.may_change(id)?;
        match revision {
            None if !id.kind.updates_unconditionally() => return Err(INVALID),
            Some(revision) if revision != old.revision => return Err(CONFLICT),
            _ => {}
        }
        // Much of a pod's spec is decided by the server, and none of it may be left out.
        if id.kind == Kind::Pod && part == Part::Whole && base.is_none() {
            return Err(INVALID);
        }
        let ending = base.and_then(|base| base.deleting);
        let phase = id.kind == Kind::Namespace && part == Part::Status && ending.is_some() != old.deleting.is_some();
        if phase || ending.is_some_and(|ending| Some(ending) != old.deleting) {
            return Err(INVALID);
        }
        // What a body says of owners is taken for what its sender wants, but not through a subresource.
        let owners = base.filter(|_| part == Part::Whole).map(|base| &base.owners);
        let owners = owners.filter(|owners| !owners.is_empty()).unwrap_or(&old.owners);
        predict::updated(id.kind, part, old, owners, &owner, fields)
    }

    pub fn patch(
        &self,
        client: Client,
        at: Target,
        (part, form): (Part, PatchForm),
        edit: &Edit,
        test: Option<i64>,
        version: Version,
        dry: bool,
    ) -> Asked {
        let id = self.world.id(at);
        let mut edit = edit.sound(at.kind);
        if at.kind == Kind::Pod && form == PatchForm::Merge {
            // It would replace the list of containers.
            edit.set
                .retain(|field, _| !matches!(field, crate::kinds::Field::Spec(_)));
        }
        let test = test.filter(|_| form == PatchForm::Json);
        let revision = self.carried(&id, version);
        let (media, body) = match form {
            PatchForm::Json => (
                "application/json-patch+json",
                json_patch(at.kind, &edit, test, revision),
            ),
            PatchForm::Merge => ("application/merge-patch+json", merge_patch(at.kind, &edit, revision)),
            PatchForm::Strategic => (
                "application/strategic-merge-patch+json",
                merge_patch(at.kind, &edit, revision),
            ),
        };
        let path = Self::path(&id, subresource(part), client, dry);
        let judge = move |session: &mut Self, answer: &Answer| {
            let predicted = session.patched(client, &id, (part, form), &edit, test, revision);
            let what = format!("patch {form:?} {part:?}");
            session.compare(&what, &id, answer, predicted, (Shows::Object, dry))
        };
        Asked::new(client, Method::PATCH, path, media, body, judge)
    }

    fn patched(
        &self,
        client: Client,
        id: &Id,
        (part, form): (Part, PatchForm),
        edit: &Edit,
        test: Option<i64>,
        revision: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        known(client)?;
        has_part(id.kind, part)?;
        if form == PatchForm::Strategic && id.kind == Kind::Widget {
            return Err(Refusal(415, "UnsupportedMediaType"));
        }
        let old = self.world.now.get(id).ok_or(NOT_FOUND)?;
        if form == PatchForm::Json {
            self.fits(id, old, edit, test)?;
        }
        self.may_change(id)?;
        if revision.is_some_and(|revision| revision != old.revision) {
            return Err(CONFLICT);
        }
        let fields = edit.onto(&old.fields, form == PatchForm::Strategic);
        let owner = Self::owner(client, false, subresource(part));
        predict::updated(id.kind, part, old, &old.owners, &owner, fields)
    }

    /// Whether the paths of a JSON patch lead somewhere, and its test holds.
    fn fits(&self, id: &Id, old: &Object, edit: &Edit, test: Option<i64>) -> Result<(), Refusal> {
        let label = crate::kinds::Field::Label(crate::kinds::Key::A);
        let read = self.world.read(id, 0).map(|(_, read)| read).unwrap_or(&Value::Null);
        let leads = |field: &crate::kinds::Field| {
            let above = id
                .kind
                .slot(*field)
                .and_then(|slot| slot.path.split_last())
                .map(|(_, above)| pointer(above));
            above.is_some_and(|above| read.pointer(&above).is_some())
        };
        let holds = test.is_none_or(|value| old.fields.get(&label) == Some(&value));
        let leads = edit.set.keys().all(leads);
        let there = edit.remove.iter().all(|field| old.fields.contains_key(field));
        match holds && leads && there {
            true => Ok(()),
            false => Err(INVALID),
        }
    }

    pub fn apply(&self, client: Client, at: Target, part: Part, fields: &Fields, force: bool, dry: bool) -> Asked {
        let id = self.world.id(at);
        let fields = predict::sound_part(at.kind, part, fields);
        let mut body = self.body(&id, &fields);
        if part == Part::Status {
            let status = body.get("status").cloned();
            body = json!({"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": {"name": id.name}});
            if let Some(status) = status {
                body["status"] = status;
            }
        }
        let path = format!("{}&force={force}", Self::path(&id, subresource(part), client, dry));
        let judge = move |session: &mut Self, answer: &Answer| {
            let predicted = session.application(client, &id, part, &fields, force);
            let what = format!("apply {part:?}");
            session.compare(&what, &id, answer, predicted, (Shows::Object, dry))
        };
        Asked::new(client, Method::PATCH, path, "application/apply-patch+yaml", body, judge)
    }

    fn application(
        &self,
        client: Client,
        id: &Id,
        part: Part,
        fields: &Fields,
        force: bool,
    ) -> Result<Outcome, Refusal> {
        known(client)?;
        has_part(id.kind, part)?;
        let owner = Self::owner(client, true, subresource(part));
        match self.world.now.get(id) {
            None if part == Part::Status => Err(NOT_FOUND),
            None => {
                self.may_come(id)?;
                Ok(predict::created(id.kind, &owner, fields, false))
            }
            Some(old) => {
                let outcome = predict::applied(id.kind, part, old, &owner, fields, force);
                if outcome != Err(CONFLICT) {
                    self.may_change(id)?;
                }
                outcome
            }
        }
    }

    pub fn read_scale(&self, client: Client, at: Target) -> Asked {
        let id = self.world.id(at);
        let path = Self::path(&id, "scale", client, false);
        let judge = move |session: &mut Self, answer: &Answer| {
            let old = session.world.now.get(&id).filter(|_| at.kind.has_scale()).cloned();
            let predicted = known(client).and_then(|()| {
                let object = old.ok_or(NOT_FOUND)?;
                if !object.fields.contains_key(&REPLICAS) {
                    return Err(Refusal(500, "InternalError"));
                }
                let then = predict::Then::Same;
                Ok(Outcome {
                    code: 200,
                    object,
                    then,
                })
            });
            session.compare("read scale", &id, answer, predicted, (Shows::Scale, false))
        };
        Asked::new(client, Method::GET, path, JSON, Value::Null, judge)
    }

    pub fn scale(&self, client: Client, at: Target, replicas: i64, patch: bool, version: Version, dry: bool) -> Asked {
        let id = self.world.id(at);
        let revision = self.carried(&id, version);
        let mut body = json!({"spec": {"replicas": replicas}, "metadata": {}});
        if let Some(revision) = revision {
            body["metadata"]["resourceVersion"] = json!(revision.to_string());
        }
        let (method, media) = match patch {
            true => (Method::PATCH, "application/merge-patch+json"),
            false => {
                body["apiVersion"] = json!("autoscaling/v1");
                body["kind"] = json!("Scale");
                body["metadata"]["name"] = json!(id.name);
                if at.kind.is_namespaced() {
                    body["metadata"]["namespace"] = json!(id.namespace);
                }
                (Method::PUT, JSON)
            }
        };
        let path = Self::path(&id, "scale", client, dry);
        let judge = move |session: &mut Self, answer: &Answer| {
            let predicted = session.scaled(client, &id, replicas, revision);
            session.compare("scale", &id, answer, predicted, (Shows::Scale, dry))
        };
        Asked::new(client, method, path, media, body, judge)
    }

    fn scaled(&self, client: Client, id: &Id, replicas: i64, revision: Option<u64>) -> Result<Outcome, Refusal> {
        known(client)?;
        let old = self
            .world
            .now
            .get(id)
            .filter(|_| id.kind.has_scale())
            .ok_or(NOT_FOUND)?;
        self.may_change(id)?;
        if revision.is_some_and(|revision| revision != old.revision) {
            return Err(CONFLICT);
        }
        predict::scaled(id.kind, old, &Self::owner(client, false, "scale"), replicas)
    }

    pub fn delete(&self, client: Client, at: Target, options: &DeleteOptions) -> Asked {
        let id = self.world.id(at);
        let right = self.world.now.get(&id).map(|object| object.uid.clone());
        let uid = options.uid.map(|uid| match uid {
            Uid::Right => right.unwrap_or_else(|| "gone".to_owned()),
            Uid::Wrong => "another".to_owned(),
        });
        let revision = options.version.and_then(|back| self.carried(&id, Version::Read(back)));
        let mut body = delete_body(options);
        if let Some(uid) = &uid {
            body["preconditions"]["uid"] = json!(uid);
        }
        if let Some(revision) = revision {
            body["preconditions"]["resourceVersion"] = json!(revision.to_string());
        }
        let path = Self::path(&id, "", client, false);
        let options = options.clone();
        let judge = move |session: &mut Self, answer: &Answer| {
            let other = |old: &Object| {
                uid.as_ref().is_some_and(|uid| *uid != old.uid) || revision.is_some_and(|other| other != old.revision)
            };
            let predicted = known(client).and_then(|()| {
                let old = session.world.now.get(&id).ok_or(NOT_FOUND)?;
                match other(old) {
                    true => Err(CONFLICT),
                    false => Ok(predict::deleted(id.kind, old, &options)),
                }
            });
            session.compare("delete", &id, answer, predicted, (Shows::Deletion, options.dry))
        };
        Asked::new(client, Method::DELETE, path, JSON, body, judge)
    }

    pub async fn delete_collection(&mut self, client: Client, query: &Query, options: &DeleteOptions) -> Verdict {
        let query = Query {
            place: Some(query.place.unwrap_or(Place::Left)),
            ..*query
        };
        let path = format!("{}?{}", self.collection_of(&query), self.selectors(&query));
        let answer = self
            .send(client, Method::DELETE, &path, JSON, &delete_body(options))
            .await;
        self.count("delete collection", &answer);
        if let Err(refusal) = known(client) {
            return crate::session::refused(&answer, refusal);
        }
        if query.kind == Kind::Namespace {
            return crate::session::refused(&answer, Refusal(405, "MethodNotAllowed"));
        }
        let selected = self.world.at(self.world.log.len(), &query);
        self.same_items(&query, &answer, &selected)?;
        if options.dry {
            return Ok(());
        }
        let (begun, marked) = (self.world.log.len(), self.world.marks.len());
        for (id, old) in selected {
            let outcome = predict::deleted(id.kind, &old, options);
            if matches!(outcome.then, predict::Then::Gone | predict::Then::Ended) {
                // At which revision it was marked, nobody is told.
                let marked = Object {
                    revision: 0,
                    ..outcome.object
                };
                match outcome.then {
                    predict::Then::Ended => self.world.end(id, marked),
                    _ => self.world.put(id, None),
                }
                continue;
            }
            let path = Self::path(&id, "", Client::One, false);
            let answer = self.send(Client::One, Method::GET, &path, JSON, &Value::Null).await;
            self.compare(
                "deleted in a collection",
                &id,
                &answer,
                Ok(outcome),
                (Shows::Object, false),
            )?;
        }
        // In which order they went is the server's to choose.
        self.world.marks.truncate(marked);
        for change in &mut self.world.log[begun..] {
            change.together = Some(begun);
        }
        self.list(Client::One, &query, None, Age::Fresh).await
    }

    pub fn finalize(&self, client: Client, number: u8) -> Asked {
        let id = self.world.id(Target {
            kind: Kind::Namespace,
            place: Place::Nowhere,
            number,
        });
        let read = self.world.read(&id, 0).map(|(_, read)| read.clone());
        let mut body = read.unwrap_or_else(|| self.body(&id, &Fields::new()));
        body["spec"]["finalizers"] = json!([]);
        drop(
            body["metadata"]
                .as_object_mut()
                .map(|meta| meta.remove("resourceVersion")),
        );
        let path = Self::path(&id, "finalize", client, false);
        let judge = move |session: &mut Self, answer: &Answer| {
            let old = session.world.now.get(&id).ok_or(NOT_FOUND);
            let predicted = known(client).and_then(|()| Ok(predict::finalized(old?)));
            session.compare("finalize", &id, answer, predicted, (Shows::Object, false))
        };
        Asked::new(client, Method::PUT, path, JSON, body, judge)
    }
}

fn delete_body(options: &DeleteOptions) -> Value {
    let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    if let Some(policy) = options.propagation {
        body["propagationPolicy"] = json!(match policy {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        });
    }
    if let Some(grace) = options.grace {
        body["gracePeriodSeconds"] = json!(grace);
    }
    if options.dry {
        body["dryRun"] = json!(["All"]);
    }
    body
}

fn json_patch(kind: Kind, edit: &Edit, test: Option<i64>, revision: Option<u64>) -> Value {
    let mut steps = Vec::new();
    if let Some(value) = test {
        steps.push(json!({"op": "test", "path": "/metadata/labels/a", "value": format!("v{value}")}));
    }
    for (field, value) in &edit.set {
        if let Some(slot) = kind.slot(*field) {
            steps.push(json!({"op": "add", "path": pointer(slot.path), "value": slot.form.write(*value)}));
        }
    }
    let removed = edit.remove.iter().filter_map(|field| kind.slot(*field));
    steps.extend(removed.map(|slot| json!({"op": "remove", "path": pointer(slot.path)})));
    if edit.finalizers.is_some() {
        let names: Vec<&str> = object::finalizers(&edit.onto(&Fields::new(), false)).collect();
        steps.push(json!({"op": "add", "path": "/metadata/finalizers", "value": names}));
    }
    if let Some(revision) = revision {
        steps.push(json!({"op": "add", "path": "/metadata/resourceVersion", "value": revision.to_string()}));
    }
    Value::Array(steps)
}

fn merge_patch(kind: Kind, edit: &Edit, revision: Option<u64>) -> Value {
    let mut patch = json!({"metadata": {}});
    let put = |patch: &mut Value, path: &[&str], value: Value| match (kind, path) {
        (Kind::Pod, ["spec", ..]) => patch["spec"] = json!({"containers": [{"name": "c", "image": value}]}),
        _ => object::put(patch, path, value),
    };
    for (field, value) in &edit.set {
        if let Some(slot) = kind.slot(*field) {
            put(&mut patch, slot.path, slot.form.write(*value));
        }
    }
    for slot in edit.remove.iter().filter_map(|field| kind.slot(*field)) {
        put(&mut patch, slot.path, Value::Null);
    }
    if edit.finalizers.is_some() {
        let names: Vec<&str> = object::finalizers(&edit.onto(&Fields::new(), false)).collect();
        patch["metadata"]["finalizers"] = json!(names);
    }
    if let Some(revision) = revision {
        patch["metadata"]["resourceVersion"] = json!(revision.to_string());
    }
    patch
}
