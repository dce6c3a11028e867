//! Personal data in JSON, masked: the structure stays, and what says something of a person does not.
//!
//! A field of a row is personal if its list declares it, with everything in it. A field of a body is also personal if its name is
//! one that such fields usually have, and a text by its form: a CPF or CNPJ, an e-mail address, a telephone number. Knows no
//! provider and no list.

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

fn masked(json: &str, fields: &[&str], parties: &[&str], is_body: bool) -> Option<String> {
    // It also bounds the depth.
    serde_json::from_str::<IgnoredAny>(json).ok()?;
    let fields: Vec<String> = fields.iter().map(|name| plain(name)).collect();
    let is_field = |name: &str| {
        let name = plain(&serde_json::from_str::<String>(name).unwrap_or_default());
        fields.contains(&name)
            || is_body && (USUAL.contains(&name.as_str()) || WITHIN.iter().any(|part| name.contains(part)))
    };
    let mut out = String::with_capacity(json.len());
    // Of each open object and array: whether it is an object, and whether it is within a personal field.
    let mut open: Vec<(bool, bool)> = Vec::new();
    let (mut is_name, mut is_personal, mut is_party) = (false, false, false);
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let (token, after) = rest.split_at(token_bytes(rest, first));
        rest = after;
        let is_in_object = open.last().is_some_and(|(is_object, _)| *is_object);
        let is_within = is_personal || open.last().is_some_and(|(_, is_personal)| *is_personal);
        match first {
            '{' | '[' => {
                open.push((first == '{', is_within));
                (is_name, is_personal) = (first == '{', false);
            }
            '}' | ']' => {
                open.pop();
            }
            ',' => (is_name, is_personal) = (is_in_object, false),
            ':' => is_name = false,
            '"' if is_name => {
                is_personal = is_field(token);
                is_party = parties.contains(&token.trim_matches('"'));
            }
            '"' if is_party && is_cnpj(token) => {}
            '"' if token.len() > 2 && (is_within || is_body && is_personal_text(token)) => {
                out.extend(["\"", MASK, "\""]);
                continue;
            }
            '-' | '0'..='9' | 't' | 'f' if is_within => {
                match is_body {
                    true => out.extend(["\"", MASK, "\""]),
                    false => out.push_str("null"),
                }
                continue;
            }
            // White space, `null`, and what is not personal.
            _ => {}
        }
        out.push_str(token);
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
    let text = serde_json::from_str::<String>(quoted).unwrap_or_default();
    let text = text.trim();
    if text.starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        // Whatever it holds: a body within a body.
        return true;
    }
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(10)).collect();
    let has_only =
        |others: &[char]| text.chars().all(|letter| letter.is_ascii_digit() || others.contains(&letter));
    let is_phone = text.starts_with(['+', '(']) && digits.len() >= 10 && has_only(&['+', ' ', '-', '(', ')']);
    is_mail(text) || is_phone || has_only(&['.', '-', '/']) && has_check_digits(&digits)
}

fn is_mail(text: &str) -> bool {
    text.split_once('@').is_some_and(|(who, host)| {
        !who.is_empty() && host.contains('.') && !host.contains('@') && !text.contains(char::is_whitespace)
    })
}

/// Whether a text, in quotes, is the CNPJ of a company, in digits.
fn is_cnpj(quoted: &str) -> bool {
    let digits: Option<Vec<u32>> = quoted.trim_matches('"').chars().map(|digit| digit.to_digit(10)).collect();
    digits.is_some_and(|digits| digits.len() == 14 && has_check_digits(&digits))
}

/// Whether digits are those of a CPF or a CNPJ: the last two follow from the others (modulo 11).
fn has_check_digits(digits: &[u32]) -> bool {
    let cycle = match digits.len() {
        11 => 10,
        14 => 8,
        _ => return false,
    };
    let check = |digits: &[u32]| {
        let weighted = digits.iter().rev().zip((2..2 + cycle).cycle()).map(|(digit, weight)| digit * weight);
        match weighted.sum::<u32>() % 11 {
            0 | 1 => 0,
            rest => 11 - rest,
        }
    };
    (digits.len() - 2..digits.len()).all(|at| digits[at] == check(&digits[..at]))
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
            ("\"2026-11-22\"", false),
            ("\"order.created\"", false),
            ("\"a@b\"", false),
            ("\"@example.com\"", false),
        ] {
            assert_eq!(is_personal_text(text), expect, "{text}");
        }
    }
}
