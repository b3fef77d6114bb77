"""Pictures: `reading` decodes one, `layouts` finds those of a data set, `defects` puts synthetic defects on good ones."""
