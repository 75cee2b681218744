"""From turns to a prompt's token ids, by a template that is not trusted."""
