//! The declarative file of subscriptions.

use subscriptions::Declaration;
use subscriptions::file::{changes, parse};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "[[subscriptions]]\nname = \"billing\"\ntopics = [\"malote:receivable.*\"]\npull = {}\n",
        "[[subscriptions]]\nname = 'crm'\ntopics = ['recuperador:acordo.#']\nfilter = 'data.a == 1'\ntransform = '[event.id]'\n\
         push = { url = 'https://crm.example/hooks', headers = ['x-api-key'], retry = ['5s', '2h'], order = 'subject', \
         batch_events = 10, rate_per_s = 5, auth = { basic = { username = 'u' } } }\n\
         secrets = { signing = { file = 'crm.secret' }, headers = { x-api-key = { env = 'CRM_API_KEY' } } }\n",
        "[[subscriptions]]\nname = \"erp\"\ntopics = [\"gestao-online:#\", \"recuperador:*\"]\nqueue = { user = \"erp\" }\n",
        "# none\nsubscriptions = []\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Every mistake has its line; what is read is the same in the store's form, and differs from itself in nothing.
pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match parse(text) {
        Ok(declared) => {
            for one in declared {
                let json = serde_json::to_string(&one.declaration).expect("a declaration is JSON");
                let again: Declaration =
                    serde_json::from_str(&json).expect("it was written by a declaration");
                assert_eq!(again, one.declaration, "{json}");
                assert!(changes(&one.declaration, &again).is_empty(), "{json}");
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "{text:?}");
            for mistake in mistakes {
                assert!((1..=1 + text.lines().count()).contains(&mistake.line), "{text:?}: {mistake}");
            }
        }
    }
}
