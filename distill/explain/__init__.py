"""Where a model looks and how alike two models are inside: receptive fields, attribution, CKA."""
