"""Pictures: `reading` decodes one, `layouts` and `manifest` find those of a data set by its `labels`, `survey` looks at all training
pictures before anything is fitted (`repeats`: which show the same part), `defects` puts synthetic defects on good ones."""
