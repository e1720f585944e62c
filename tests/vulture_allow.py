"""Names that only look unused: others call with them."""

app_state  # uvicorn's word for a parameter of every protocol it makes  # noqa: B018, F821
