//! Origins: what many events have in common, as one row. An event has its number, and one index finds events by source,
//! provider and topic. A row stays for good, so that a number never changes its meaning.

use std::collections::{BTreeMap, HashMap};

use event::Event;
use event::{ProviderName, SourceName, Topic};
use store::many::{Value, fetch, insert};
use store::{AnyRow, Conditions, Connection, Row, StoreError, Tx, sql};

/// Source, provider and topic of an event.
pub(crate) type Origin = (String, String, String);

/// The origins of these events, sorted, and the place of each event's among them.
pub(crate) fn distinct<'a>(events: impl Iterator<Item = &'a Event>) -> (Vec<Origin>, Vec<usize>) {
    let names = events
        .map(|Event { source, topic, .. }| (source.name.as_str(), source.provider.as_str(), topic.as_str()));
    let names: Vec<_> = names.collect();
    let mut places: BTreeMap<_, usize> = names.iter().map(|name| (name, 0)).collect();
    places.values_mut().zip(0..).for_each(|(place, at)| *place = at);
    let of_events = names.iter().map(|name| places[name]).collect();
    let owned = |(source, provider, topic): &(&str, &str, &str)| {
        (source.to_string(), provider.to_string(), topic.to_string())
    };
    (places.into_keys().map(owned).collect(), of_events)
}

/// The number of each of these origins, which it gets now if it has none. They are sorted, so that two transactions with
/// the same new ones wait for each other in one order only.
pub(crate) async fn numbers(tx: &mut Tx, wanted: &[Origin]) -> Result<Vec<i64>, StoreError> {
    let mut numbers = look_up(tx, wanted).await?;
    let new: Vec<Origin> = wanted.iter().filter(|origin| !numbers.contains_key(origin)).cloned().collect();
    if !new.is_empty() {
        let rows = new.iter().map(|origin| values(origin).to_vec()).collect();
        let tail = "ON CONFLICT (source, provider, topic) DO NOTHING";
        insert(tx, "origins (source, provider, topic)", tail, rows).await?;
        numbers.extend(look_up(tx, &new).await?);
    }
    Ok(wanted.iter().map(|origin| numbers[origin]).collect())
}

fn values((source, provider, topic): &Origin) -> [Value; 3] {
    [source, provider, topic].map(Value::from)
}

/// How many are looked up with one statement: a batch rarely has more.
const LOOKED_UP: usize = 64;

async fn look_up(tx: &mut Tx, wanted: &[Origin]) -> Result<HashMap<Origin, i64>, StoreError> {
    let mut numbers = HashMap::with_capacity(wanted.len());
    for chunk in wanted.chunks(LOOKED_UP) {
        // One text for any number of them.
        let padding = std::iter::repeat_n(&chunk[0], LOOKED_UP - chunk.len());
        let chunk: Vec<&Origin> = chunk.iter().chain(padding).collect();
        let text = format!(
            "SELECT source, provider, topic, id FROM origins WHERE (source, provider, topic) IN (VALUES {})",
            sql::rows(LOOKED_UP, 3)
        );
        for row in fetch(tx, text, chunk.into_iter().flat_map(values)).await? {
            numbers.insert((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?), row.try_get(3)?);
        }
    }
    Ok(numbers)
}

/// The origins that a filter leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origins {
    /// It does not ask for any.
    All,
    /// These.
    Few(Vec<i64>),
    /// More than are looked up one by one.
    Many,
}

/// The most origins that are looked up one by one. A provider has some dozens of topics.
const FEW: usize = 64;

/// What a filter says of the origin.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) source: Option<&'a SourceName>,
    pub(crate) provider: Option<&'a ProviderName>,
    pub(crate) topic: Option<&'a Topic>,
}

impl Wanted<'_> {
    fn conditions(&self, conditions: &mut Conditions) {
        conditions.with("o.source =", self.source);
        conditions.with("o.provider =", self.provider);
        conditions.with("o.topic =", self.topic);
    }

    pub(crate) async fn find(&self, connection: &mut Connection) -> Result<Origins, StoreError> {
        let mut conditions = Conditions::default();
        self.conditions(&mut conditions);
        if conditions.values.is_empty() {
            return Ok(Origins::All);
        }
        let text = format!("SELECT o.id FROM origins o {} LIMIT {}", conditions.clause(), FEW + 1);
        let rows = fetch(connection, text, conditions.values).await?;
        let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
        Ok(if ids.len() > FEW { Origins::Many } else { Origins::Few(ids) })
    }

    /// Adds the condition that a row with the number in `column` fits. `is_read_by_index`: the rows are read in the order
    /// of an index that begins with this column.
    pub(crate) fn add(
        &self,
        conditions: &mut Conditions,
        column: &str,
        origins: &Origins,
        is_read_by_index: bool,
    ) {
        match origins {
            Origins::All => {}
            Origins::Few(ids) if ids.is_empty() => conditions.add("1 = 0"),
            Origins::Few(ids) if is_read_by_index => {
                let one = |id: &i64| format!("{column} = {}", conditions.bind(Value::from(*id)));
                let alternatives = ids.iter().map(one).collect();
                conditions.one_of(alternatives);
            }
            Origins::Few(ids) => {
                let list: Vec<_> = ids.iter().map(|id| conditions.bind(Value::from(*id))).collect();
                conditions.add(format!("{column} IN ({})", list.join(", ")));
            }
            Origins::Many => {
                // Of each row as it comes: an index by origin has them in another order.
                let mut fits = Conditions::default();
                std::mem::swap(&mut fits.values, &mut conditions.values);
                self.conditions(&mut fits);
                conditions
                    .add(format!("EXISTS (SELECT 1 FROM origins o {} AND o.id = {column})", fits.clause()));
                conditions.values = fits.values;
            }
        }
    }
}

/// The name of the source of an origin `o` in the books and in retention. Domain events come from consumers, whose names may be
/// those of configured sources: they have their CloudEvents source, `/malote/<consumer>`.
pub(crate) fn booked_source() -> String {
    let own = ProviderName::OWN;
    format!("CASE o.provider WHEN '{own}' THEN '/{own}/' || o.source ELSE o.source END")
}

/// Every origin: its number and its source, as [`booked_source`] names it.
pub(crate) async fn all(connection: &mut Connection) -> Result<Vec<(i64, String)>, StoreError> {
    let text = format!("SELECT o.id, {} AS source FROM origins o ORDER BY source, o.id", booked_source());
    let rows = fetch(connection, text, []).await?;
    let origin = |row: &AnyRow| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(origin).collect()
}
