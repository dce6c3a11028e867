//! Personal data in JSON, masked: the structure stays, and what says something of a person does not.
//!
//! A field of a row is personal if its list declares it, with everything in it. A field of a body is also personal if its name is
//! one that such fields usually have, and a text, a number or the name of a field by its form: a CPF or CNPJ, an e-mail address, a
//! telephone number. Knows no provider and no list.

use std::collections::BTreeSet;

use serde::de::IgnoredAny;

/// What stands in the place of a personal value.
pub const MASK: &str = "***";

/// What the names of personal fields have in them, too: `cpf_cliente`, `emails`.
const WITHIN: [&str; 6] = ["celular", "cnpj", "cpf", "email", "phone", "telefone"];

/// Names that personal fields usually have, without punctuation.
const USUAL: [&str; 44] = [
    "address",
    "birthdate",
    "birthday",
    "celular",
    "cellphone",
    "cep",
    "clientname",
    "cnpj",
    "cpf",
    "cpfcnpj",
    "customername",
    "datanascimento",
    "document",
    "documento",
    "email",
    "emailaddress",
    "endereco",
    "firstname",
    "fullname",
    "lastname",
    "logradouro",
    "mail",
    "mobile",
    "mobilephone",
    "name",
    "nascimento",
    "nome",
    "nomecliente",
    "nomecompleto",
    "passport",
    "phone",
    "phonenumber",
    "postalcode",
    "rg",
    "sobrenome",
    "ssn",
    "street",
    "surname",
    "taxid",
    "telefone",
    "telephone",
    "username",
    "whatsapp",
    "zipcode",
];

/// Rows of a list in JSON, or one, with these fields masked: a personal text is [`MASK`], and a number is missing. `None` if the
/// text is not JSON. In `parties`, which are some of the fields, a CNPJ stays: it is that of a company, not of a person.
pub fn mask_rows(json: &str, fields: &[&str], parties: &[&str]) -> Option<String> {
    masked(json, fields, parties, false)
}

/// A body in JSON with its personal values masked, those of these fields among them. `None` if the text is not JSON.
pub fn mask_body(json: &str, fields: &[&str]) -> Option<String> {
    masked(json, fields, &[], true)
}

/// Whether what this field of a body holds is personal: its name is among these, or is one that such fields usually have.
pub fn is_personal_name(name: &str, fields: &[&str]) -> bool {
    let name = plain(name);
    fields.iter().any(|field| plain(field) == name) || is_usual(&name)
}

fn is_usual(plain: &str) -> bool {
    USUAL.contains(&plain) || WITHIN.iter().any(|part| plain.contains(part))
}

/// Whom a text is about, as far as their numbers and addresses tell: every CPF and CNPJ in it without punctuation, and every e-mail
/// address in lower case.
pub fn people(text: &str) -> BTreeSet<String> {
    // In JSON, a slash may be escaped.
    let text = text.replace("\\/", "/");
    let is_between =
        |letter: char| !(letter.is_alphanumeric() || matches!(letter, '.' | '-' | '/' | '@' | '_' | '+'));
    let words = text.split(is_between).map(|word| word.trim_matches(['.', '-', '/', '+']));
    words.filter_map(person).collect()
}

/// A person by number or address in the form of [`people`]; `None` if the text is neither.
pub fn person(text: &str) -> Option<String> {
    let text = text.trim();
    let is_cut_number = matches!(text.len(), 10) && text.bytes().all(|byte| byte.is_ascii_digit());
    match text {
        _ if is_mail(text) => Some(text.to_lowercase()),
        _ if is_cut_number && is_tax_id(&format!("0{text}")) => Some(format!("0{text}")),
        _ if is_tax_id(text) => Some(text.chars().filter(char::is_ascii_alphanumeric).collect()),
        _ => None,
    }
}

fn masked(json: &str, fields: &[&str], parties: &[&str], is_body: bool) -> Option<String> {
    // It also bounds the depth.
    serde_json::from_str::<IgnoredAny>(json).ok()?;
    let fields: Vec<String> = fields.iter().map(|name| plain(name)).collect();
    let is_field = |name: &str| {
        let name = plain(&serde_json::from_str::<String>(name).unwrap_or_default());
        fields.contains(&name) || is_body && is_usual(&name)
    };
    let mut out = String::with_capacity(json.len());
    // Of each open object and array: whether it is an object, and whether it is within a personal field.
    let mut open: Vec<(bool, bool)> = Vec::new();
    let (mut is_name, mut is_in_field, mut is_party) = (false, false, false);
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let (token, after) = rest.split_at(token_bytes(rest, first));
        rest = after;
        let is_in_object = open.last().is_some_and(|(is_object, _)| *is_object);
        let is_within = is_in_field || open.last().is_some_and(|(_, is_personal)| *is_personal);
        let mut is_hidden = false;
        match first {
            '{' | '[' => {
                open.push((first == '{', is_within));
                (is_name, is_in_field) = (first == '{', false);
            }
            '}' | ']' => {
                open.pop();
            }
            ',' => (is_name, is_in_field) = (is_in_object, false),
            ':' => is_name = false,
            '"' if is_name => {
                is_in_field = is_field(token);
                is_hidden = is_body && is_personal_text(token);
                is_party = parties.contains(&token.trim_matches('"'));
            }
            '"' if is_party && is_cnpj(token) => {}
            '"' => is_hidden = token.len() > 2 && (is_within || is_body && is_personal_text(token)),
            '-' | '0'..='9' => {
                is_hidden = is_within || is_body && !token.contains('.') && person(token).is_some();
            }
            't' | 'f' => is_hidden = is_within,
            // White space, `null`, and what is not personal.
            _ => {}
        }
        match is_hidden {
            false => out.push_str(token),
            true if is_body || first == '"' => out.extend(["\"", MASK, "\""]),
            true => out.push_str("null"),
        }
    }
    Some(out)
}

/// The length of the token that a text of JSON begins with.
fn token_bytes(text: &str, first: char) -> usize {
    match first {
        '"' => {
            let mut is_escaped = false;
            let end = text.bytes().skip(1).position(|byte| {
                let is_end = byte == b'"' && !is_escaped;
                is_escaped = byte == b'\\' && !is_escaped;
                is_end
            });
            end.map_or(text.len(), |end| end + 2)
        }
        '-' | '0'..='9' | 'a'..='z' => {
            let is_part = |letter: char| letter.is_ascii_alphanumeric() || ['-', '+', '.'].contains(&letter);
            text.find(|letter| !is_part(letter)).unwrap_or(text.len())
        }
        other => other.len_utf8(),
    }
}

/// A name in lower case and without punctuation: `cpf_cnpj` and `CpfCnpj` are one.
fn plain(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether a text, in quotes, has the form of what identifies a person.
fn is_personal_text(quoted: &str) -> bool {
    is_personal(&serde_json::from_str::<String>(quoted).unwrap_or_default())
}

/// Whether a text has the form of what identifies a person.
pub fn is_personal(text: &str) -> bool {
    let text = text.trim();
    if text.starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        // Whatever it holds: a body within a body.
        return true;
    }
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let has_only =
        |others: &[char]| text.chars().all(|letter| letter.is_ascii_digit() || others.contains(&letter));
    let is_phone = text.starts_with(['+', '(']) && digits >= 10 && has_only(&['+', ' ', '-', '(', ')']);
    is_mail(text) || is_phone || is_tax_id(text)
}

fn is_mail(text: &str) -> bool {
    text.split_once('@').is_some_and(|(who, host)| {
        !who.is_empty() && host.contains('.') && !host.contains('@') && !text.contains(char::is_whitespace)
    })
}

/// Whether a text, in quotes, is the CNPJ of a company, without punctuation.
fn is_cnpj(quoted: &str) -> bool {
    let text = quoted.trim_matches('"');
    text.len() == 14 && is_tax_id(text)
}

/// Whether a text is a CPF or a CNPJ, of which the last two characters are digits that follow from the others (modulo 11). A CNPJ
/// may have upper-case letters, each worth its ASCII code less 48 (Instrução Normativa RFB 2.229/2024).
fn is_tax_id(text: &str) -> bool {
    let mut values = Vec::with_capacity(14);
    for byte in text.bytes() {
        match byte {
            b'.' | b'-' | b'/' => {}
            b'0'..=b'9' | b'A'..=b'Z' if values.len() < 14 => values.push(u32::from(byte - b'0')),
            _ => return false,
        }
    }
    let is_digit = |value: &u32| *value < 10;
    let cycle = match values.len() {
        11 if values.iter().all(is_digit) => 10,
        14 if values[12..].iter().all(is_digit) => 8,
        _ => return false,
    };
    let check = |values: &[u32]| {
        let weighted = values.iter().rev().zip((2..2 + cycle).cycle()).map(|(value, weight)| value * weight);
        match weighted.sum::<u32>() % 11 {
            0 | 1 => 0,
            rest => 11 - rest,
        }
    };
    (values.len() - 2..values.len()).all(|at| values[at] == check(&values[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_values_of_a_body_are_masked_and_the_rest_stays_as_it_was_written() {
        let body = r#"{ "id": 7.0, "Nome_Cliente": "Maria \"M\"", "cpf": 52998224725, "eye": {"right": [-0.75, null, true, ""]},
            "note": "ask 529.982.247-25", "by": "maria@example.com", "to": "+55 (11) 91234-5678", "code": "52998224725",
            "order": "52998224726", "cpf_cliente": "1", "fone": "(11) 91234-5678", "payload": "{\"nome\":\"Maria\"}", "name": {"first": "M"}, "name_of_file": "a.pdf" }"#;
        let expect = r#"{ "id": 7.0, "Nome_Cliente": "***", "cpf": "***", "eye": {"right": ["***", null, "***", ""]},
            "note": "ask 529.982.247-25", "by": "***", "to": "***", "code": "***",
            "order": "52998224726", "cpf_cliente": "***", "fone": "***", "payload": "***", "name": {"first": "***"}, "name_of_file": "a.pdf" }"#;
        assert_eq!(mask_body(body, &["Eye"]).as_deref(), Some(expect));
        assert_eq!(mask_body("{", &[]), None);
        assert_eq!(mask_body(r#""maria@example.com""#, &[]).as_deref(), Some(r#""***""#));
    }

    #[test]
    fn rows_are_masked_in_the_declared_fields_alone_and_keep_their_types() {
        let rows = r#"{"items":[{"document":"1","email":null,"right":{"axis":5},"name":"crm"}],"next":null}"#;
        let expect =
            r#"{"items":[{"document":"***","email":null,"right":{"axis":null},"name":"crm"}],"next":null}"#;
        assert_eq!(mask_rows(rows, &["document", "email", "right"], &[]).as_deref(), Some(expect));
    }

    #[test]
    fn of_a_party_that_may_be_a_company_the_number_of_a_person_is_masked() {
        let row =
            |document: &str| format!(r#"{{"supplier_document":{document},"document":"11222333000181"}}"#);
        for (document, expect) in [
            ("\"11222333000181\"", "\"11222333000181\""),
            ("\"52998224725\"", "\"***\""),
            ("\"11222333000182\"", "\"***\""),
            ("null", "null"),
        ] {
            let masked =
                mask_rows(&row(document), &["document", "supplier_document"], &["supplier_document"]);
            let expect = row(expect).replace(r#""document":"11222333000181""#, r#""document":"***""#);
            assert_eq!(masked, Some(expect), "{document}");
        }
    }

    #[test]
    fn the_check_digits_of_documents_tell_them_from_other_numbers() {
        for (text, expect) in [
            ("\"529.982.247-25\"", true),
            ("\"11222333000181\"", true),
            ("\"11.222.333/0001-81\"", true),
            ("\"11222333000182\"", false),
            ("\"12.ABC.345/01DE-35\"", true),
            ("\"12ABC34501DE35\"", true),
            ("\"12ABC34501DE36\"", false),
            ("\"12abc34501de35\"", false),
            ("\"ABC.982.247-25\"", false),
            ("\"2026-11-22\"", false),
            ("\"order.created\"", false),
            ("\"a@b\"", false),
            ("\"@example.com\"", false),
        ] {
            assert_eq!(is_personal_text(text), expect, "{text}");
        }
    }

    #[test]
    fn numbers_and_names_of_fields_are_recognised_by_their_form_too() {
        let body = r#"{"a": [52998224725, 52998224726, 1453078916, 11222333000181, 529982247.25], "maria@example.com": {"n": 1}}"#;
        let expect = r#"{"a": ["***", 52998224726, "***", "***", 529982247.25], "***": {"n": 1}}"#;
        assert_eq!(mask_body(body, &[]).as_deref(), Some(expect));
        // The names and numbers of a row are ours.
        assert_eq!(mask_rows(body, &[], &[]).as_deref(), Some(body));
    }

    #[test]
    fn a_field_is_personal_by_its_declared_or_usual_name() {
        for (name, expect) in [("Customer_Id", true), ("cpf_cliente", true), ("order", false)] {
            assert_eq!(is_personal_name(name, &["customerId"]), expect, "{name}");
        }
    }

    #[test]
    fn people_are_found_in_any_text_however_they_are_written() {
        let text = r#"cpf=529.982.247-25&cnpj=11.222.333\/0001-81, "Maria@Example.com"; 1453078916 <a>12.ABC.345/01DE-35</a> 11222333000182"#;
        let expect = ["01453078916", "11222333000181", "12ABC34501DE35", "52998224725", "maria@example.com"];
        assert_eq!(people(text), expect.map(str::to_owned).into());
    }
}
