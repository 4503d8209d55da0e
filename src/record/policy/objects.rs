//! Where in an object that was sent the members stand that a level leaves out.

use super::cuts::{Gaps, Part, Walk};
use crate::record::json::{Compactor, Error, Fate};

const KIND: &str = "kind";
const API_VERSION: &str = "apiVersion";
const METADATA: &str = "metadata";
const ITEMS: &str = "items";
const ROWS: &str = "rows";
const OBJECT: &str = "object";
const MANAGED_FIELDS: &str = "managedFields";
/// The members of `metadata` that are looked for. All but `managedFields` say which object it is, and stay at level
/// Metadata.
const METADATA_NAMES: [&str; 6] = [MANAGED_FIELDS, "name", "generateName", "namespace", "uid", "resourceVersion"];

/// Reads an object of the cluster. `rest` is the part that all but its identity belongs to (none: it always stays);
/// `managed_fields` is the part of its own managed fields and, if it is a list, of its items', or if a response is a Table,
/// of its rows' objects. What is no object, such as null, has nothing that could be left out.
pub(super) fn read(
    json: &mut Compactor<'_>,
    rest: Option<Part>,
    managed_fields: Part,
    walk: &mut Walk,
) -> Result<(), Error> {
    if !json.next_is(b'{')? {
        return json.skip();
    }
    // If there is no `rest`, no member below is given a part, so that nothing is noted here.
    let mut gaps = Gaps::new(rest.unwrap_or(managed_fields), json.position() + 1);
    json.members(&[METADATA, KIND, API_VERSION, ITEMS, ROWS], |json, name| -> Result<Fate, Error> {
        let part = match name {
            Some(METADATA | KIND | API_VERSION) => None,
            _ => rest,
        };
        gaps.before_member(part, walk);
        match name {
            Some(METADATA) => read_metadata(json, rest, managed_fields, walk)?,
            Some(ITEMS) => read_items(json, managed_fields, walk)?,
            // Nobody writes a Table to the cluster.
            Some(ROWS) if rest.is_none() => read_rows(json, managed_fields, walk)?,
            _ => json.skip()?,
        }
        Ok(gaps.after_member(part, json.position(), walk))
    })?;
    gaps.end(walk);
    Ok(())
}

fn read_metadata(
    json: &mut Compactor<'_>,
    rest: Option<Part>,
    managed_fields: Part,
    walk: &mut Walk,
) -> Result<(), Error> {
    if !json.next_is(b'{')? {
        return json.skip();
    }
    let start = json.position() + 1;
    let mut managed_gaps = Gaps::new(managed_fields, start);
    let mut rest_gaps = Gaps::new(rest.unwrap_or(managed_fields), start);
    json.members(&METADATA_NAMES, |json, name| -> Result<Fate, Error> {
        let managed = (name == Some(MANAGED_FIELDS)).then_some(managed_fields);
        let of_rest = rest.filter(|_| name.is_none_or(|name| name == MANAGED_FIELDS));
        managed_gaps.before_member(managed, walk);
        rest_gaps.before_member(of_rest, walk);
        json.skip()?;
        let end = json.position();
        let fates = [managed_gaps.after_member(managed, end, walk), rest_gaps.after_member(of_rest, end, walk)];
        Ok(if fates.contains(&Fate::Drop) { Fate::Drop } else { Fate::Keep })
    })?;
    managed_gaps.end(walk);
    rest_gaps.end(walk);
    Ok(())
}

/// Reads the items of a list.
fn read_items(json: &mut Compactor<'_>, managed_fields: Part, walk: &mut Walk) -> Result<(), Error> {
    read_elements(json, |json| read_item(json, managed_fields, walk))
}

/// Reads the rows of a Table (meta.k8s.io/v1), which is what `kubectl get` asks for.
fn read_rows(json: &mut Compactor<'_>, managed_fields: Part, walk: &mut Walk) -> Result<(), Error> {
    read_elements(json, |json| read_member(json, OBJECT, |json| read_item(json, managed_fields, walk)))
}

fn read_item(json: &mut Compactor<'_>, managed_fields: Part, walk: &mut Walk) -> Result<(), Error> {
    read_member(json, METADATA, |json| read_metadata(json, None, managed_fields, walk))
}

/// Has each element of an array read; passes over a value of any other kind.
fn read_elements(
    json: &mut Compactor<'_>,
    element: impl FnMut(&mut Compactor<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    if !json.next_is(b'[')? {
        return json.skip();
    }
    json.elements(element)
}

/// Has an object's members of this name read; passes over the others, and over a value of any other kind.
fn read_member(
    json: &mut Compactor<'_>,
    wanted: &'static str,
    mut value: impl FnMut(&mut Compactor<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    if !json.next_is(b'{')? {
        return json.skip();
    }
    json.members(&[wanted], |json, name| -> Result<Fate, Error> {
        match name {
            Some(_) => value(json)?,
            None => json.skip()?,
        }
        Ok(Fate::Keep)
    })
}
