//! Enums that the tables keep as words.

/// An enum that is one of a few fixed words, in the tables as in JSON.
///
/// Its attributes have the derives of serde and of the schema, and a `serde(rename_all)` that gives the same words: the
/// schema does not see a word that a macro is given.
#[macro_export]
macro_rules! stored_enum {
    ($(#[$about:meta])* $name:ident { $($(#[$variant_about:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $(#[$about])*
        pub enum $name {
            $($(#[$variant_about])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            pub(crate) fn read(row: &$crate::AnyRow, column: &str) -> Result<Self, $crate::DriverError> {
                Self::named(&$crate::Row::try_get::<String, _>(row, column)?, column)
            }

            /// The same for a column that may be without one.
            #[allow(dead_code, reason = "not every enum has such a column")]
            pub(crate) fn read_optional(
                row: &$crate::AnyRow,
                column: &str,
            ) -> Result<Option<Self>, $crate::DriverError> {
                let word: Option<String> = $crate::Row::try_get(row, column)?;
                word.map(|word| Self::named(&word, column)).transpose()
            }

            fn named(word: &str, column: &str) -> Result<Self, $crate::DriverError> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => {
                        let words = [$($word),+].join(", ");
                        Err($crate::DriverError::Decode(format!("{column} is none of {words}").into()))
                    }
                }
            }
        }
    };
}
