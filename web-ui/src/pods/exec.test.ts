import { expect, test } from 'vitest';
import { closeStdin, execPath, read, resize, stdin, words } from './exec';

const message = (channel: number, text: string): ArrayBuffer => new Uint8Array([channel, ...new TextEncoder().encode(text)]).buffer;
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

test('channels', () => {
  const out = read(message(1, 'hello'));
  expect(out.channel === 'out' && text(out.bytes)).toBe('hello');
  expect(read(message(2, 'x')).channel).toBe('err');
  expect(read(message(9, 'x')).channel).toBe('other');
  expect(read(new ArrayBuffer(0)).channel).toBe('other');
});

test.each([
  ['{"status":"Success"}', 0, 'The command has ended.'],
  ['{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}', 3, 'The command has ended with exit code 3.'],
  ['{"status":"Failure","message":"no such container"}', 1, 'no such container'],
  ['not json', 1, 'not json'],
])('the end: %s', (status, code, said) => expect(read(message(3, status))).toEqual({ channel: 'end', words: said, code }));

test('what is sent', () => {
  expect([...stdin('a')]).toEqual([0, 97]);
  expect([...closeStdin()]).toEqual([255, 0]);
  expect(resize(80, 24)[0]).toBe(4);
  expect(JSON.parse(text(resize(80, 24).subarray(1)))).toEqual({ Width: 80, Height: 24 });
});

test('the address', () => {
  expect(execPath('a', 'p', 'c', ['ls', '-l a'])).toBe('/api/v1/namespaces/a/pods/p/exec?container=c&stdin=true&stdout=true&tty=true&command=ls&command=-l+a');
});

test.each([['sh', ['sh']], ['sh -c "ls -l; echo \\"x\\""', ['sh', '-c', 'ls -l; echo "x"']], ["a 'b c'", ['a', 'b c']], ['  ', []]])('words of %s', (line, expected) => expect(words(line)).toEqual(expected));
