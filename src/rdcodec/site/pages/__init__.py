"""The pages: templates, what fills them, and Markdown documents beside them."""
