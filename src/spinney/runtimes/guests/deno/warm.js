// What a first function is likely to use, so that no call has to wait until Deno has made it. An enum takes the longest way to a module.

export const BODY = '{"name":"you"}';
export const SOURCE = `
enum Greeting { Hello = 'hello' }

export default async (request: { json(): Promise<{ name: string }> }): Promise<Response> => {
  const { name } = await request.json();
  console.log('%s', name, [request], new Error('warm').stack);
  await new Promise<void>((go) => setTimeout(go, 0));
  return Response.json({ [Greeting.Hello]: name });
};
`;
