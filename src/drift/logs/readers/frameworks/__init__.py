"""What frameworks for applications keep of their chats: LangChain, LangGraph, AI SDK."""
