"""From runs to an answer: checked results, figures and the report."""
