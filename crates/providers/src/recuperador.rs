//! Recuperador CRM: debt-settlement agreements, whole, each time one is registered, cancelled or settled.
//!
//! The sender tries unprocessed notices again for days, so an old state can arrive after a newer one: `id`,
//! the webhook code, grows with each notice and is the order of facts.

use event::{Subject, Topic};
use serde::Deserialize;

use crate::provider::{root, subject, topic_from};
use crate::value::{choice, null_is_default, optional, string};
use crate::{Centavos, Date, Duplicates, Id, Personal, Sequence, SubjectKey, TaxId, TopicInfo, Unusable};

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

/// The same notice comes again, for days, until it is answered well: within a week it is the same fact.
pub(crate) fn duplicates() -> Duplicates {
    Duplicates::by_field("/id", 7 * 24 * 60 * 60)
}

pub(crate) fn read(json: &str, _: &SubjectKey) -> Result<(Topic, Option<Subject>), Unusable> {
    let [cancelado, situacao, id_acordo] = root(json, ["cancelado", "situacao", "id_acordo"])?;
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
    Ok((topic_from("cancelado", topic)?, subject("agreement", id_acordo)))
}

choice! {
    /// What became of an agreement: the provider's `situacao`.
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object")]
pub struct Agreement {
    /// The webhook's code: the order of facts.
    pub id: Sequence,
    /// The creditor.
    #[serde(default, deserialize_with = "optional")]
    pub id_credor: Option<Id>,
    /// The agreement.
    pub id_acordo: Id,
    /// The client, who owes.
    #[serde(default, deserialize_with = "optional")]
    pub id_cliente: Option<Id>,
    /// The consultant.
    #[serde(default, deserialize_with = "optional")]
    pub id_consultor: Option<Id>,
    /// The client's name.
    #[serde(default, deserialize_with = "optional")]
    pub nome_cliente: Option<Personal>,
    /// The client's CPF or CNPJ.
    #[serde(default, deserialize_with = "optional")]
    pub cpf_cnpj: Option<TaxId>,
    /// The creditor's name.
    #[serde(default, deserialize_with = "optional")]
    pub nome_credor: Option<Personal>,
    /// The consultant's name.
    #[serde(default, deserialize_with = "optional")]
    pub nome_consultor: Option<Personal>,
    /// The day of the agreement.
    #[serde(default, deserialize_with = "optional")]
    pub data: Option<Date>,
    /// Days for which the oldest debt is late.
    #[serde(default, deserialize_with = "optional")]
    pub atraso: Option<Sequence>,
    /// The day on which the oldest debt fell due.
    #[serde(default, deserialize_with = "optional")]
    pub datavencto_original: Option<Date>,
    /// The debts before any discount.
    pub valor_original: Centavos,
    /// The final value.
    pub valor_acordo: Centavos,
    /// The number of instalments, the down payment included.
    #[serde(default, deserialize_with = "optional")]
    pub parcelas: Option<Sequence>,
    /// How often an instalment falls due.
    #[serde(default, deserialize_with = "optional")]
    pub periodicidade: Option<Periodicidade>,
    /// The day on which the first instalment falls due.
    #[serde(default, deserialize_with = "optional")]
    pub dataprivencto: Option<Date>,
    /// Whether there is a down payment.
    #[serde(default, deserialize_with = "optional")]
    pub entrada: Option<bool>,
    /// The day of the down payment.
    #[serde(default, deserialize_with = "optional")]
    pub data_entrada: Option<Date>,
    /// The down payment.
    #[serde(default, deserialize_with = "optional")]
    pub valor_entrada: Option<Centavos>,
    /// Whether the client made the agreement on the negotiation portal.
    #[serde(default, deserialize_with = "optional")]
    pub feito_via_portal_negociacao: Option<bool>,
    /// Discount on interest, fine and monetary correction.
    #[serde(default, deserialize_with = "optional")]
    pub valor_desconto_juros_multa_correcao: Option<Centavos>,
    /// Discount on the debt itself.
    #[serde(default, deserialize_with = "optional")]
    pub valor_desconto_principal: Option<Centavos>,
    /// Interest agreed on, in proportion.
    #[serde(default, deserialize_with = "optional")]
    pub valor_juros_proporcional_acordado: Option<Centavos>,
    /// Fine agreed on, in proportion.
    #[serde(default, deserialize_with = "optional")]
    pub valor_multa_proporcional_acordada: Option<Centavos>,
    /// Monetary correction agreed on, in proportion.
    #[serde(default, deserialize_with = "optional")]
    pub valor_correcao_proporcional_acordada: Option<Centavos>,
    /// A note. The documentation calls it a decimal; it is text.
    #[serde(default, deserialize_with = "optional")]
    pub obs: Option<Personal>,
    /// A note that the client may see.
    #[serde(default, deserialize_with = "optional")]
    pub obs_publicas: Option<Personal>,
    /// Whether the agreement is cancelled; missing is no.
    #[serde(default, deserialize_with = "optional")]
    pub cancelado: Option<bool>,
    /// The day of the cancellation.
    #[serde(default, deserialize_with = "optional")]
    pub data_cancelamento: Option<Date>,
    /// Why it was cancelled.
    #[serde(default, deserialize_with = "optional")]
    pub motivo_cancelamento: Option<Personal>,
    /// What became of it.
    pub situacao: Situacao,
    /// The debts that the agreement settles.
    #[serde(default, deserialize_with = "null_is_default")]
    pub lista_dividas: Vec<Divida>,
    /// The instalments: the receivables. They must be there; without them nothing could be booked.
    pub lista_parcelas: Vec<Parcela>,
}

impl Agreement {
    /// Whether the agreement is cancelled. This goes before [`Self::situacao`], as it does in the topic.
    pub fn is_canceled(&self) -> bool {
        self.cancelado == Some(true)
    }
}

/// A debt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object")]
pub struct Divida {
    /// The debt.
    pub id: Id,
    /// The day on which it fell due.
    #[serde(default, deserialize_with = "optional")]
    pub datavencto: Option<Date>,
    /// The day on which it was paid, once settled.
    #[serde(default, deserialize_with = "optional")]
    pub datapagto: Option<Date>,
    /// The amount.
    pub valor: Centavos,
    /// What is owed for.
    #[serde(default, deserialize_with = "optional")]
    pub descricao: Option<String>,
    /// A note.
    #[serde(default, deserialize_with = "optional")]
    pub obs: Option<Personal>,
    /// The contract.
    #[serde(default, deserialize_with = "optional")]
    pub contrato: Option<String>,
    /// The branch.
    #[serde(default, deserialize_with = "optional")]
    pub unidade: Option<String>,
    /// The month, such as `05/2026`.
    #[serde(default, deserialize_with = "optional")]
    pub competencia: Option<String>,
    /// The creditor's code for it.
    #[serde(default, deserialize_with = "optional")]
    pub codigo: Option<String>,
    /// Whether it is paid.
    pub situacao: Pagamento,
}

/// An instalment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object")]
pub struct Parcela {
    /// The instalment.
    pub id: Id,
    /// The day on which it falls due.
    pub datavencto: Date,
    /// The day on which it was paid.
    #[serde(default, deserialize_with = "optional")]
    pub datapagto: Option<Date>,
    /// The amount.
    pub valor: Centavos,
    /// Whether it is paid.
    pub situacao: Pagamento,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn example(name: &str) -> &'static str {
        TOPICS.iter().find(|topic| topic.name == name).and_then(|topic| topic.example).unwrap()
    }

    fn agreement(body: &str) -> Result<Agreement, String> {
        parse(body.as_bytes(), false).map_err(|error| error.to_string())
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
            r#"lista_parcelas[2].valor: expected a decimal, got "abc""#,
        );
        check(r#""situacao": "A""#, r#""situacao": "X""#, r#"situacao: expected "A" or "I" or "Q", got "X""#);
        check(
            r#""cancelado": "N""#,
            r#""cancelado": "talvez""#,
            r#"cancelado: expected "S" or "N", got "talvez""#,
        );
        check(
            r#""cpf_cnpj": "529.982.247-25""#,
            r#""cpf_cnpj": ["529"]"#,
            "cpf_cnpj: expected a CPF or CNPJ, got an array",
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
            "lista_dividas[0].valor: expected at most two decimals, got 750.005",
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
}
