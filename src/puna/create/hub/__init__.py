"""The Hugging Face hub: repositories, which of their files are wanted, fetching them, and models made of them."""
