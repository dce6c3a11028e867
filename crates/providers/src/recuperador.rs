//! Recuperador CRM: debt-settlement agreements, whole, each time one is registered, cancelled or settled.
//!
//! The sender tries unprocessed notices again for days, so an old state can arrive after a newer one: `id`,
//! the webhook code, grows with each notice and is the order of facts.

use event::{Subject, Topic};

use crate::contract::{Object, Payload};
use crate::fields::{Fields, root, subject, topic_from};
use crate::provider::Declaration;
use crate::value::{choice, string};
use crate::{
    Centavos, ContractError, Date, Duplicates, Id, Personal, Sequence, SubjectKey, TaxId, TopicInfo, Unusable,
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
];

/// The window of duplicates, in seconds: within a week the same notice is the same fact.
const REPEATED_FOR_S: i64 = 7 * 24 * 60 * 60;

/// The declaration of the provider.
pub(crate) fn declaration() -> Declaration {
    Declaration {
        name: NAME,
        title: "Recuperador CRM",
        topics: TOPICS,
        keep_headers: &[],
        duplicates: Some(Duplicates::by_field("/id", REPEATED_FOR_S)),
        read,
    }
}

fn read(fields: &Fields<'_>, _: &SubjectKey) -> Result<(Topic, Option<Subject>), Unusable> {
    let [cancelado, situacao, id_acordo] = root(fields, ["cancelado", "situacao", "id_acordo"])?;
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
}
