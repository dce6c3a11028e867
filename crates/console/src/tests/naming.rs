//! The names of fields in the document of the API: one name for one thing.

use super::*;

/// The properties of a schema of the document, with those of what it includes.
fn properties(document: &Value, schema: &Value) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return properties(document, document.pointer(&reference[1..]).unwrap());
    }
    let own = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
    let included = schema["allOf"].as_array().into_iter().flatten();
    own.chain(included.flat_map(|schema| properties(document, schema))).collect()
}

/// See the description of the document.
#[test]
fn a_row_is_found_by_its_id_and_names_another_thing_s_event_in_event_id() {
    let document: Value = serde_json::from_str(&openapi(&views())).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut of_other_things = std::collections::BTreeSet::new();
    for view in views() {
        let page = view.schemas().into_iter().next().unwrap().0;
        let row = document["components"]["schemas"][&page]["properties"]["items"]["items"].clone();
        let fields = properties(&document, &row);
        assert!(!fields.is_empty(), "{}: {row}", view.name);
        let has = |name: &str| fields.iter().any(|field| field == name);
        let is_shown =
            paths.get(&format!("/api/v1/{}/{{id}}", view.name)).is_some_and(|path| path["get"].is_object());
        assert!(!is_shown || has("id"), "{} is shown by an id that its rows do not have", view.name);
        // A group of rows is found by one of them.
        for name in ["id", "event_id"].into_iter().filter(|_| view.is_paged()) {
            assert!(
                !view.filters().contains(&name.to_owned()) || has(name),
                "{}: {name} is no field",
                view.name
            );
        }
        match view.tag {
            "books" | "documents" | "jobs" => of_other_things.extend(row["$ref"].as_str().map(str::to_owned)),
            _ => assert!(!has("event_id"), "{}: the id of the event is `id`", view.name),
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let is_allowed = of_other_things.contains(&format!("#/components/schemas/{name}"));
        assert!(
            is_allowed || schema["properties"]["event_id"].is_null(),
            "{name}: the id of the event is `id`"
        );
    }
}
