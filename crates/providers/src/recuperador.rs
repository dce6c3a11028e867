//! Recuperador CRM: debt-settlement agreements, whole, each time one is registered, cancelled or settled; and instalments, each
//! time one is paid.
//!
//! The sender tries unprocessed notices again for days, so an old state can arrive after a newer one: `id`,
//! the webhook code, grows with each notice about agreements and is their order of facts. Notices about instalments count on
//! their own. The same notices can be read from the sender's API, with a few more fields.
//!
//! The documentation shows no whole body: the examples are made from its fields.

use std::collections::BTreeMap;

use event::{Subject, Topic};

use crate::contract::{Object, Payload};
use crate::fields::{Fields, root, subject, topic_from};
use crate::provider::Declaration;
use crate::value::{choice, string};
use crate::{
    Centavos, ContractError, Date, Duplicates, Id, Personal, Polling, Sequence, SubjectKey, TaxId, TopicInfo,
    Unusable,
};

/// The provider's name.
pub const NAME: &str = "recuperador";

macro_rules! example {
    ($name:literal) => {
        Some(include_str!(concat!("../fixtures/recuperador/", $name, ".json")))
    };
}

/// Every topic. The provider has no topic field: they follow from `cancelado` and `situacao`.
pub const TOPICS: &[TopicInfo] = &[
    TopicInfo {
        name: "acordo.cadastrado",
        meaning: "an agreement was registered",
        subject: "id_acordo",
        example: example!("acordo.cadastrado"),
    },
    TopicInfo {
        name: "acordo.cancelado",
        meaning: "an agreement was cancelled",
        subject: "id_acordo",
        example: example!("acordo.cancelado"),
    },
    TopicInfo {
        name: "acordo.quitado",
        meaning: "an agreement was settled",
        subject: "id_acordo",
        example: example!("acordo.quitado"),
    },
    TopicInfo {
        name: "acordo.inativo",
        meaning: "an agreement became inactive",
        subject: "id_acordo",
        example: None,
    },
    TopicInfo {
        name: APPROVED,
        meaning: "an instalment was paid (webhook \"parcelas aprovadas\")",
        subject: "id_parcela",
        example: example!("parcela.aprovada"),
    },
];

/// The topic of an instalment that was paid.
const APPROVED: &str = "parcela.aprovada";

/// The id of an instalment: as the webhook calls it, and as the sender's API does.
const INSTALMENT_IDS: [&str; 2] = ["id_parcela", "id_contasareceber"];

/// The fields that the sender's API adds to what the webhook has.
const ADDED_BY_API: &[&str] = &["id_assessoria", "data_referencia", "data_rec"];

/// The window of duplicates, in seconds: within a week the same notice is the same fact.
const REPEATED_FOR_S: i64 = 7 * 24 * 60 * 60;

/// The declaration of the provider.
pub(crate) fn declaration() -> Declaration {
    Declaration {
        name: NAME,
        title: "Recuperador CRM",
        topics: TOPICS,
        keep_headers: &[],
        personal: &["nome_cliente", "cpf_cnpj", "nome_credor", "nome_consultor"],
        duplicates: Some(
            Duplicates::by_field("/id", REPEATED_FOR_S)
                .disregarding(ADDED_BY_API)
                .with_renamed(&[(INSTALMENT_IDS[1], INSTALMENT_IDS[0])]),
        ),
        polling: Some(Polling {
            paths: &["/api/v1PayloadWebhookAcordo", "/api/v1PayloadWebhookParcelaAprovada"],
            // The documentation shows no body.
            acknowledge: r#"{"id": {/id}}"#,
        }),
        api: None,
        read,
    }
}

fn read(fields: &Fields<'_>, _: &SubjectKey) -> Result<(Topic, Option<Subject>), Unusable> {
    let names = ["cancelado", "situacao", "id_acordo", INSTALMENT_IDS[0], INSTALMENT_IDS[1]];
    let [cancelado, situacao, id_acordo, ids @ ..] = root(fields, names)?;
    for (name, id) in INSTALMENT_IDS.into_iter().zip(ids) {
        if let Some(subject) = subject("instalment", name, id)? {
            return Ok((topic_from(name, APPROVED)?, Some(subject)));
        }
    }
    let is = |field: Option<&str>, letter| field.and_then(string).as_deref() == Some(letter);
    let topic = if is(cancelado, "S") {
        "acordo.cancelado"
    } else if is(situacao, "Q") {
        "acordo.quitado"
    } else if is(situacao, "I") {
        "acordo.inativo"
    } else {
        "acordo.cadastrado"
    };
    Ok((topic_from("cancelado", topic)?, subject("agreement", "id_acordo", id_acordo)?))
}

choice! {
    /// The state of an agreement: the provider's `situacao`.
    Situacao {
        /// Awaiting payment.
        AguardandoPagamento = "A",
        /// Inactive.
        Inativo = "I",
        /// Settled.
        Quitado = "Q",
    }
}

choice! {
    /// Whether a debt or an instalment is paid: the provider's `situacao` in the lists.
    Pagamento {
        /// Unpaid.
        NaoPago = "N",
        /// Paid.
        Pago = "P",
    }
}

choice! {
    /// How often an instalment falls due.
    Periodicidade {
        /// Monthly.
        Mensal = "M",
        /// Fortnightly.
        Quinzenal = "Q",
        /// Weekly.
        Semanal = "S",
    }
}

/// An agreement, under the provider's own field names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The webhook's code: the order of facts.
    pub id: Sequence,
    /// The creditor.
    pub id_credor: Option<Id>,
    /// The agreement.
    pub id_acordo: Id,
    /// The client, who owes.
    pub id_cliente: Option<Id>,
    /// The consultant.
    pub id_consultor: Option<Id>,
    /// The client's name.
    pub nome_cliente: Option<Personal>,
    /// The client's CPF or CNPJ.
    pub cpf_cnpj: Option<TaxId>,
    /// The creditor's name.
    pub nome_credor: Option<Personal>,
    /// The consultant's name.
    pub nome_consultor: Option<Personal>,
    /// The day of the agreement.
    pub data: Option<Date>,
    /// Days for which the oldest debt is late.
    pub atraso: Option<Sequence>,
    /// The day on which the oldest debt fell due.
    pub datavencto_original: Option<Date>,
    /// The debts before any discount.
    pub valor_original: Centavos,
    /// The final value.
    pub valor_acordo: Centavos,
    /// The number of instalments, the down payment included.
    pub parcelas: Option<Sequence>,
    /// How often an instalment falls due.
    pub periodicidade: Option<Periodicidade>,
    /// The day on which the first instalment falls due.
    pub dataprivencto: Option<Date>,
    /// Whether there is a down payment.
    pub entrada: Option<bool>,
    /// The day of the down payment.
    pub data_entrada: Option<Date>,
    /// The down payment.
    pub valor_entrada: Option<Centavos>,
    /// Whether the client made the agreement on the negotiation portal.
    pub feito_via_portal_negociacao: Option<bool>,
    /// Discount on interest, fine and monetary correction.
    pub valor_desconto_juros_multa_correcao: Option<Centavos>,
    /// Discount on the debt itself.
    pub valor_desconto_principal: Option<Centavos>,
    /// Interest agreed on, in proportion.
    pub valor_juros_proporcional_acordado: Option<Centavos>,
    /// Fine agreed on, in proportion.
    pub valor_multa_proporcional_acordada: Option<Centavos>,
    /// Monetary correction agreed on, in proportion.
    pub valor_correcao_proporcional_acordada: Option<Centavos>,
    /// A note. The documentation calls it a decimal; it is text.
    pub obs: Option<Personal>,
    /// A note that the client may see.
    pub obs_publicas: Option<Personal>,
    /// Whether the agreement is cancelled; missing is no.
    pub cancelado: Option<bool>,
    /// The day of the cancellation.
    pub data_cancelamento: Option<Date>,
    /// Why it was cancelled.
    pub motivo_cancelamento: Option<Personal>,
    /// Its state.
    pub situacao: Situacao,
    /// The debts that the agreement settles.
    pub lista_dividas: Vec<Divida>,
    /// The instalments: the receivables. They must be there; without them nothing could be booked.
    pub lista_parcelas: Vec<Parcela>,
}

impl Payload for Agreement {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self {
            id: object.required("id")?,
            id_credor: object.optional("id_credor"),
            id_acordo: object.required("id_acordo")?,
            id_cliente: object.optional("id_cliente"),
            id_consultor: object.optional("id_consultor"),
            nome_cliente: object.optional("nome_cliente"),
            cpf_cnpj: object.optional("cpf_cnpj"),
            nome_credor: object.optional("nome_credor"),
            nome_consultor: object.optional("nome_consultor"),
            data: object.optional("data"),
            atraso: object.optional("atraso"),
            datavencto_original: object.optional("datavencto_original"),
            valor_original: object.required("valor_original")?,
            valor_acordo: object.required("valor_acordo")?,
            parcelas: object.optional("parcelas"),
            periodicidade: object.optional("periodicidade"),
            dataprivencto: object.optional("dataprivencto"),
            entrada: object.optional("entrada"),
            data_entrada: object.optional("data_entrada"),
            valor_entrada: object.optional("valor_entrada"),
            feito_via_portal_negociacao: object.optional("feito_via_portal_negociacao"),
            valor_desconto_juros_multa_correcao: object.optional("valor_desconto_juros_multa_correcao"),
            valor_desconto_principal: object.optional("valor_desconto_principal"),
            valor_juros_proporcional_acordado: object.optional("valor_juros_proporcional_acordado"),
            valor_multa_proporcional_acordada: object.optional("valor_multa_proporcional_acordada"),
            valor_correcao_proporcional_acordada: object.optional("valor_correcao_proporcional_acordada"),
            obs: object.optional("obs"),
            obs_publicas: object.optional("obs_publicas"),
            cancelado: object.checked("cancelado")?,
            data_cancelamento: object.optional("data_cancelamento"),
            motivo_cancelamento: object.optional("motivo_cancelamento"),
            situacao: object.required("situacao")?,
            lista_dividas: object.optional_list("lista_dividas")?,
            lista_parcelas: object.list("lista_parcelas")?,
        })
    }
}

impl Agreement {
    /// Whether the agreement is cancelled. This goes before [`Self::situacao`], as it does in the topic.
    pub fn is_canceled(&self) -> bool {
        self.cancelado == Some(true)
    }
}

/// A notice that an instalment was paid, "parcela aprovada", under the provider's own field names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParcelaAprovada {
    /// The webhook's code. It counts on its own, not with those of agreements.
    pub id: Option<Sequence>,
    /// The creditor.
    pub id_credor: Option<Id>,
    /// The agreement.
    pub id_acordo: Id,
    /// The client, who has paid.
    pub id_cliente: Option<Id>,
    /// The instalment: `id_parcela`, or `id_contasareceber` of the sender's API.
    pub id_parcela: Id,
    /// The client's name.
    pub nome_cliente: Option<Personal>,
    /// The client's CPF or CNPJ.
    pub cpf_cnpj: Option<TaxId>,
    /// The creditor's name.
    pub nome_credor: Option<Personal>,
    /// The day on which it fell due.
    pub data_vencto: Option<Date>,
    /// The day on which it was paid.
    pub data_pagto: Date,
    /// What it was paid with.
    pub meio_pagto: Option<String>,
    /// How it was paid.
    pub forma_pagto: Option<String>,
    /// Which instalment of how many, such as `01/12`.
    pub parcela: Option<String>,
    /// Every amount, by its name: all begin with `valor`, and which there are is not documented.
    pub valores: BTreeMap<String, Centavos>,
}

impl ParcelaAprovada {
    /// The instalment that an object is about; `None` if it is about another thing.
    fn id(object: &Object<'_>) -> Result<Option<Id>, ContractError> {
        for name in INSTALMENT_IDS {
            if let Some(id) = object.checked(name)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

impl Payload for ParcelaAprovada {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        let missing = || ContractError::new(INSTALMENT_IDS[0], "missing, and so is id_contasareceber");
        Ok(Self {
            id: object.optional("id"),
            id_credor: object.optional("id_credor"),
            id_acordo: object.required("id_acordo")?,
            id_cliente: object.optional("id_cliente"),
            id_parcela: Self::id(object)?.ok_or_else(missing)?,
            nome_cliente: object.optional("nome_cliente"),
            cpf_cnpj: object.optional("cpf_cnpj"),
            nome_credor: object.optional("nome_credor"),
            data_vencto: object.optional("data_vencto"),
            data_pagto: object.required("data_pagto")?,
            meio_pagto: object.optional("meio_pagto"),
            forma_pagto: object.optional("forma_pagto"),
            parcela: object.optional("parcela"),
            valores: object.optional_beginning_with("valor"),
        })
    }
}

/// What a body is about. The body decides, not the topic: earlier releases recorded notices about instalments under topics of
/// agreements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An agreement.
    Acordo(Box<Agreement>),
    /// An instalment that was paid.
    ParcelaAprovada(Box<ParcelaAprovada>),
}

impl Payload for Notice {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(match ParcelaAprovada::id(object)? {
            Some(_) => Self::ParcelaAprovada(Box::new(Payload::read(object)?)),
            None => Self::Acordo(Box::new(Payload::read(object)?)),
        })
    }
}

/// A debt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divida {
    /// The debt.
    pub id: Id,
    /// The day on which it fell due.
    pub datavencto: Option<Date>,
    /// The day on which it was paid, once settled.
    pub datapagto: Option<Date>,
    /// The amount.
    pub valor: Centavos,
    /// What is owed for.
    pub descricao: Option<String>,
    /// A note.
    pub obs: Option<Personal>,
    /// The contract.
    pub contrato: Option<String>,
    /// The branch.
    pub unidade: Option<String>,
    /// The month, such as `05/2026`.
    pub competencia: Option<String>,
    /// The creditor's code for it.
    pub codigo: Option<String>,
    /// Whether it is paid.
    pub situacao: Pagamento,
}

impl Payload for Divida {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self {
            id: object.required("id")?,
            datavencto: object.optional("datavencto"),
            datapagto: object.optional("datapagto"),
            valor: object.required("valor")?,
            descricao: object.optional("descricao"),
            obs: object.optional("obs"),
            contrato: object.optional("contrato"),
            unidade: object.optional("unidade"),
            competencia: object.optional("competencia"),
            codigo: object.optional("codigo"),
            situacao: object.required("situacao")?,
        })
    }
}

/// An instalment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcela {
    /// The instalment.
    pub id: Id,
    /// The day on which it falls due.
    pub datavencto: Date,
    /// The day on which it was paid.
    pub datapagto: Option<Date>,
    /// The amount.
    pub valor: Centavos,
    /// Whether it is paid.
    pub situacao: Pagamento,
}

impl Payload for Parcela {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self {
            id: object.required("id")?,
            datavencto: object.required("datavencto")?,
            datapagto: object.optional("datapagto"),
            valor: object.required("valor")?,
            situacao: object.required("situacao")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn example(name: &str) -> &'static str {
        TOPICS.iter().find(|topic| topic.name == name).and_then(|topic| topic.example).unwrap()
    }

    fn agreement(body: &str) -> Result<Agreement, String> {
        parse(body.as_bytes(), "").map(|parsed| parsed.payload).map_err(|error| error.to_string())
    }

    #[test]
    fn the_registered_agreement_parses_in_full() {
        let a = agreement(example("acordo.cadastrado")).unwrap();
        assert_eq!(
            (a.id, a.id_acordo.as_str(), a.situacao),
            (Sequence(88120), "45031", Situacao::AguardandoPagamento)
        );
        assert_eq!((a.valor_original, a.valor_acordo), (Centavos(150_000), Centavos(138_060)));
        assert_eq!(a.cpf_cnpj.as_ref().unwrap().to_string(), "529.982.247-25");
        assert_eq!(a.nome_cliente.as_ref().unwrap().expose(), "Maria Aparecida de Souza");
        assert_eq!(
            (a.cancelado, a.entrada, a.periodicidade),
            (Some(false), Some(true), Some(Periodicidade::Mensal))
        );
        assert_eq!(
            (a.atraso, a.parcelas, a.valor_entrada),
            (Some(Sequence(143)), Some(Sequence(3)), Some(Centavos(46020)))
        );
        assert_eq!(a.valor_desconto_juros_multa_correcao, Some(Centavos(4656)));
        assert_eq!((a.obs.as_ref(), a.data_cancelamento), (None, None));
        assert_eq!(a.lista_dividas.len(), 2);
        assert_eq!(a.lista_dividas[0].codigo.as_deref(), Some("MENS-0526"));
        let parcelas: Vec<_> = a
            .lista_parcelas
            .iter()
            .map(|p| (p.id.as_str(), p.datavencto.to_string(), p.valor.0, p.situacao))
            .collect();
        assert_eq!(parcelas[2], ("910003", "2026-12-15".to_owned(), 46020, Pagamento::NaoPago));
        assert!(!format!("{a:?}").contains("Maria"), "a name reached Debug");
    }

    #[test]
    fn the_later_notices_parse_with_what_changed() {
        let canceled = agreement(example("acordo.cancelado")).unwrap();
        assert_eq!((canceled.cancelado, canceled.situacao), (Some(true), Situacao::Inativo));
        assert_eq!(canceled.data_cancelamento.unwrap().to_string(), "2026-11-20");
        let settled = agreement(example("acordo.quitado")).unwrap();
        assert_eq!(settled.situacao, Situacao::Quitado);
        assert!(
            settled.lista_parcelas.iter().all(|p| p.situacao == Pagamento::Pago && p.datapagto.is_some())
        );
        assert!(settled.id > canceled.id);
    }

    #[test]
    fn a_broken_contract_is_named_by_its_path() {
        let body = example("acordo.cadastrado");
        let check = |from: &str, to: &str, expect: &str| {
            assert!(body.contains(from), "{from}");
            assert_eq!(agreement(&body.replacen(from, to, 1)).unwrap_err(), expect);
        };
        check(
            r#""id": 910003, "datavencto": "2026-12-15", "datapagto": null, "valor": 460.20"#,
            r#""id": 910003, "datavencto": "2026-12-15", "datapagto": null, "valor": "abc""#,
            "lista_parcelas[2].valor: expected a decimal, got a text of 3 characters",
        );
        check(
            r#""situacao": "A""#,
            r#""situacao": "X""#,
            r#"situacao: expected "A" or "I" or "Q", got a text of 1 character"#,
        );
        check(
            r#""cancelado": "N""#,
            r#""cancelado": "talvez""#,
            r#"cancelado: expected "S" or "N", got a text of 6 characters"#,
        );
        check("\"lista_parcelas\"", "\"listaParcelas\"", "lista_parcelas: missing");
        check(
            "\"valor_acordo\": 1380.60",
            "\"valor_acordo\": null",
            "valor_acordo: expected a decimal, got null",
        );
        check(
            "\"valor\": 750.00",
            "\"valor\": 750.005",
            "lista_dividas[0].valor: expected at most two decimals, got a number of 7 characters",
        );
    }

    #[test]
    fn ids_and_money_may_be_strings_and_optional_fields_may_be_missing() {
        let a = agreement(
            r#"{"id": "7", "id_acordo": "00045", "valor_original": "395.00", "valor_acordo": "-1", "situacao": "A",
                "lista_dividas": null, "obs": 12, "contrato_novo": {"x": []}, "nome_cliente": "", "data_entrada": "",
                "lista_parcelas": [{"id": "1", "datavencto": "2026-10-05T00:00:00", "valor": "20", "situacao": "N"}]}"#,
        )
        .unwrap();
        assert_eq!((a.id, a.id_acordo.as_str()), (Sequence(7), "00045"));
        assert_eq!((a.valor_original, a.valor_acordo), (Centavos(39500), Centavos(-100)));
        assert_eq!((a.nome_cliente, a.data_entrada, a.cancelado), (None, None, None));
        assert_eq!(a.obs.unwrap().expose(), "12");
        assert_eq!(
            (a.lista_dividas.len(), a.lista_parcelas[0].datavencto.to_string()),
            (0, "2026-10-05".to_owned())
        );
    }
    #[test]
    fn what_the_books_do_not_need_never_fails_and_is_noted() {
        let read = |from: &str, to: &str| {
            let body = example("acordo.cadastrado");
            assert!(body.contains(from), "{from}");
            let parsed = parse::<Agreement>(body.replacen(from, to, 1).as_bytes(), "").unwrap();
            (parsed.payload, parsed.ignored.to_string())
        };
        let (a, ignored) = read(r#""cpf_cnpj": "529.982.247-25""#, r#""cpf_cnpj": ["529"]"#);
        assert_eq!((a.cpf_cnpj, a.lista_parcelas.len()), (None, 3));
        assert_eq!(ignored, "cpf_cnpj: expected a CPF or CNPJ, got an array");
        let (a, ignored) = read(r#""periodicidade": "M""#, r#""periodicidade": "Z""#);
        assert_eq!((a.periodicidade, ignored.contains("periodicidade: expected")), (None, true));
        let zero = r#"{"id": 1, "id_acordo": 2.0, "valor_original": "1.380,60", "valor_acordo": 1, "situacao": "A",
            "data_cancelamento": "0000-00-00", "data_entrada": "-0001-11-30 00:00:00", "valor_entrada": "1.380",
            "lista_dividas": "", "cpf_cnpj": 1234567890,
            "lista_parcelas": {"id": 3.0, "datavencto": "2026-12-15T03:00:00Z", "valor": 1, "situacao": "N"}}"#;
        let parsed = parse::<Agreement>(zero.as_bytes(), "").unwrap();
        let a = parsed.payload;
        assert_eq!((a.data_cancelamento, a.data_entrada, a.valor_entrada), (None, None, None));
        assert_eq!((a.id_acordo.as_str(), a.valor_original), ("2", Centavos(138_060)));
        assert_eq!((a.cpf_cnpj.unwrap().bare(), a.lista_parcelas[0].id.as_str()), ("01234567890", "3"));
        let ignored = parsed.ignored.to_string();
        assert!(ignored.starts_with("valor_entrada: expected an amount with its decimals"), "{ignored}");
    }

    #[test]
    fn a_paid_instalment_parses_as_the_webhook_and_as_the_api_write_it() {
        let notice = |body: &str| {
            let parsed = parse::<Notice>(body.as_bytes(), "").map_err(|error| error.to_string())?;
            Ok::<_, String>((parsed.payload, parsed.ignored.to_string()))
        };
        let posted = example("parcela.aprovada");
        let (Notice::ParcelaAprovada(parcela), ignored) = notice(posted).unwrap() else {
            panic!("another kind")
        };
        assert_eq!((parcela.id, parcela.id_acordo.as_str()), (Some(Sequence(5120)), "45031"));
        assert_eq!((parcela.id_parcela.as_str(), parcela.parcela.as_deref()), ("910001", Some("01/03")));
        assert_eq!(parcela.data_pagto.to_string(), "2026-10-14");
        let amounts: Vec<_> =
            parcela.valores.iter().map(|(name, amount)| (name.as_str(), amount.0)).collect();
        assert_eq!(amounts, [("valor", 46_020), ("valor_pago", 46_020), ("valor_repasse", 41_418)]);
        assert_eq!(ignored, "");
        assert!(!format!("{parcela:?}").contains("Maria"), "a name reached Debug");
        let polled = posted.replace("id_parcela", "id_contasareceber");
        assert_eq!(notice(&polled).unwrap().0, Notice::ParcelaAprovada(parcela));

        let needed =
            r#"{"id_acordo": 7, "id_parcela": "01", "data_pagto": "2026-10-14T00:00:00", "valor": "?"}"#;
        let (Notice::ParcelaAprovada(parcela), ignored) = notice(needed).unwrap() else {
            panic!("another kind")
        };
        assert_eq!((parcela.id_parcela.as_str(), parcela.valores.len()), ("01", 0));
        assert!(ignored.starts_with("valor: expected a decimal"), "{ignored}");
        for (without, expect) in [("id_acordo", "id_acordo: missing"), ("data_pagto", "data_pagto: missing")]
        {
            assert_eq!(notice(&needed.replace(without, "x")).unwrap_err(), expect);
        }
        assert!(matches!(notice(example("acordo.quitado")).unwrap().0, Notice::Acordo(_)));
    }
}
